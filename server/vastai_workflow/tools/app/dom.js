// Elements, figures and messages that both pages use. Other people's text becomes text nodes, never markup.
const SVG = 'http://www.w3.org/2000/svg';

const byId = (id) => document.getElementById(id);

function build(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name === 'on') for (const [event, act] of Object.entries(value)) node.addEventListener(event, act);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? '' : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

/** An HTML element; children are nodes or texts. */
const el = (tag, attributes, ...children) => build(document.createElement(tag), attributes, children);

/** An SVG element. */
const svg = (tag, attributes, ...children) => build(document.createElementNS(SVG, tag), attributes, children);

const known = (value) => value !== null && value !== undefined;
const number = (value, digits) =>
  known(value) ? value.toLocaleString('en', { minimumFractionDigits: digits, maximumFractionDigits: digits }) : '–';
/** An amount; a debt has its sign before the dollar. */
function dollars(value) {
  if (!known(value)) return '–';
  const size = Math.abs(value);
  return `${value < 0 ? '-' : ''}$${number(size, size < 0.01 && size !== 0 ? 4 : 2)}`;
}
/** Whole cents as the question writes them, else a digit more. */
const perHour = (value) => (known(value) ? `$${number(value, Math.abs(value * 100 - Math.round(value * 100)) < 1e-6 ? 2 : 3)}/h` : '–');

/** Hours as a person says them: 50 min, 5.2 h, 3.5 days. */
function span(hours) {
  if (!known(hours)) return 'not known';
  if (hours < 1) return `${number(hours * 60, 0)} min`;
  return hours < 72 ? `${number(hours, 1)} h` : `${number(hours / 24, hours < 240 ? 1 : 0)} days`;
}

/** A moment in the host's time zone. */
const moment = (date, shown) => date.toLocaleString('en', { timeZone: host.context.timeZone, hour12: false, ...shown });

/** Say something that changed; screen readers read it out. */
function say(text) {
  byId('status').textContent = text;
}

/** A refusal with its question and next step, or another failure; it stays until the next act. */
function showTrouble(error) {
  const place = byId('trouble');
  const body = error instanceof Refused ? error.body : { message: error.message };
  const sentence = /[.?!]$/.test(body.message) ? body.message : `${body.message}.`;
  const lines = [el('p', {}, el('strong', {}, error instanceof Refused ? 'Not done: ' : 'It failed: '), sentence)];
  if (body.ask_user) lines.push(el('p', {}, el('strong', {}, 'The question for you: '), body.ask_user));
  const step = nextStep(body);
  if (step) lines.push(el('p', {}, el('strong', {}, 'Next: '), step));
  place.replaceChildren(...lines);
  place.hidden = false;
}

/** What helps, by who asks: the agent in the chat, the client itself, or a terminal, which the question names. */
function nextStep({ ask_user: question, next_call: next, step }) {
  if (!next) return step;
  const onAnswer = next.tool === 'confirm_fields';
  if (question) return onAnswer ? `answer in the chat; your agent goes on with ${next.tool}.` : 'when you have done so, try again here.';
  return onAnswer ? `tell your agent to go on with ${next.tool}; this client then asks you itself.` : `your agent goes on with ${next.tool}.`;
}

function clearTrouble() {
  byId('trouble').hidden = true;
  byId('trouble').replaceChildren();
}

/** Start the page: what the host sends is handed on; what fails is shown. */
async function start(name, { onInput, onResult, onFailed, onClose }) {
  const guarded = (act) => (params) => {
    try {
      act(params);
    } catch (error) {
      showTrouble(error);
    }
  };
  host.on.set('ui/notifications/tool-input', guarded((params) => onInput(params.arguments ?? {})));
  host.on.set('ui/notifications/tool-result', guarded((result) => {
    clearTrouble();
    if (result.isError) onFailed(new Refused(refusalOf(result)));
    else onResult(result);
  }));
  host.on.set('ui/notifications/tool-cancelled', guarded(() => onFailed(new Error('The call was cancelled.'))));
  if (onClose) host.on.set('ui/resource-teardown', onClose);
  try {
    await host.connect(name);
    byId('view-only').hidden = host.callsTools;
  } catch (error) {
    showTrouble(error);
  }
}
