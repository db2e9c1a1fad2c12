// The page of machines and money: stages, costs and the balance, looked at politely, and the end of a machine.
const LOOK_MS = { moving: 10_000, steady: 60_000, longest: 300_000 };
const WAIT_S = 10;
const PLOT_HEIGHT = 240;
const LONGEST_CHART_H = 30 * 24;

const STAGES = [
  ['provisioning', 'Provisioning'],
  ['running', 'Running'],
  ['port_open', 'Port open'],
  ['ssh_ok', 'SSH works'],
  ['gpu_ok', 'Ready'],
];
const OTHERS = new Map([['failed', 'Needs you'], ['unlisted', 'Not listed'], ['gone', 'Gone']]);

const page = {
  given: {},
  /** Rows by instance id; a machine that is gone stays to be seen. */
  machines: new Map(),
  next: null,
  money: null,
  paused: false,
  busy: false,
  /** What runs now, and what waits for it. */
  acts: Promise.resolve(),
  failures: 0,
  /** Whether the trouble shown is that of a look. */
  lookFailed: false,
  timer: null,
};

const stageOf = (machine) => STAGES.findIndex(([key]) => key === machine.readiness);
const stageWords = (machine) => STAGES[stageOf(machine)]?.[1] ?? OTHERS.get(machine.readiness) ?? machine.readiness;
const isOver = (machine) => machine.readiness === 'gone' || machine.readiness === 'unlisted';
const living = () => [...page.machines.values()].map(({ machine }) => machine).filter((machine) => !isOver(machine));

const inNumber = () => (living().length === 1 ? 'One machine.' : `${living().length} machines.`);

/** Take over an answer of instance_status or wait_until_ready. */
function take(answer) {
  page.next = answer.next_call;
  const changes = [];
  for (const machine of answer.instances) {
    const before = page.machines.get(machine.instance_id);
    if (!before || stageWords(before.machine) !== stageWords(machine)) changes.push(`${machine.instance_id}: ${stageWords(machine)}`);
    keep(machine);
  }
  const seen = new Set(answer.instances.map((machine) => machine.instance_id));
  const unseen = living().filter((machine) => !seen.has(machine.instance_id));
  for (const machine of unseen) keep({ ...machine, readiness: 'unlisted', reason: 'the list does not show it any more', ssh: null });
  byId('notes').replaceChildren(...notesOf(answer).map((note) => el('li', {}, note)));
  for (const id of ['machines', 'money']) byId(id).hidden = false;
  show();
  return changes;
}

function notesOf(answer) {
  const unsettled = 'An order is not settled yet: it may have rented. Nothing more is rented until it is.';
  return [...(answer.settled ? [] : [unsettled]), ...answer.notes];
}

/** A row is made once and then changed in place, so that focus and an open question stay. */
function keep(machine) {
  const kept = page.machines.get(machine.instance_id) ?? { row: newRow(machine.instance_id), machine };
  kept.machine = machine;
  page.machines.set(machine.instance_id, kept);
}

function show() {
  const kept = [...page.machines.values()];
  if (kept.length === 0) byId('rows').replaceChildren(el('tr', {}, el('td', { colspan: 5, class: 'none' }, 'No machine runs.')));
  else if (byId('rows').querySelector('.none')) byId('rows').replaceChildren();
  for (const { row, machine } of kept) {
    if (!row.isConnected) byId('rows').append(row);
    fill(row, machine);
  }
  byId('look').disabled = page.busy || !host.callsTools;
  byId('pause').disabled = !host.callsTools;
  showStages();
  showMoney();
  showLooked();
}

function newRow(id) {
  const part = (name, tag = 'span', className = null) => el(tag, { 'data-part': name, class: className });
  const end = el('button', { type: 'button', class: 'danger', 'data-part': 'end', 'aria-label': `Destroy machine ${id}`, on: { click: () => askEnd(id) } }, 'Destroy');
  return el(
    'tr',
    { 'data-machine': id },
    el(
      'th',
      { scope: 'row' },
      String(id),
      el('span', { class: 'small' }, part('label', 'bdi'), part('whose')),
      el('details', { 'data-part': 'login' }, el('summary', {}, 'Connect'), part('ssh', 'code')),
    ),
    el('td', { class: 'stage' }, part('meter', 'span', 'meter'), part('stage', 'span', 'name'), part('price', 'span', 'small narrow'), part('reason', 'span', 'small'), part('warnings', 'span', 'small')),
    el('td', { class: 'figure wide' }, part('rate')),
    el('td', { class: 'figure wide' }, part('cost')),
    el('td', { class: 'end' }, end),
  );
}

function fill(row, machine) {
  const part = (name) => row.querySelector(`[data-part="${name}"]`);
  const put = (name, text) => { if (part(name).textContent !== text) part(name).textContent = text; };
  put('label', machine.label || 'no label');
  put('whose', machine.agreed_by === null ? ' · not rented here' : '');
  put('ssh', machine.ssh?.command ?? '');
  part('login').hidden = !machine.ssh;
  put('stage', stageWords(machine) + (['stopped', 'outbid', 'queued', 'exited'].includes(machine.state) ? ` (${machine.state})` : ''));
  put('reason', machine.reason ?? '');
  put('warnings', machine.warnings.join(' '));
  put('rate', number(machine.price_per_hour, 3));
  put('cost', dollars(machine.cost_usd));
  put('price', `${perHour(machine.price_per_hour)}, ${dollars(machine.cost_usd)} so far`);
  row.className = machine.readiness === 'failed' ? 'bad' : '';
  part('end').hidden = machine.readiness === 'gone';
  part('end').disabled = !host.callsTools;
  const reached = stageOf(machine);
  part('meter').hidden = reached < 0;
  part('meter').replaceChildren(...STAGES.map((_, i) => el('i', { class: i <= reached ? 'done' : null })));
}

function showStages() {
  const counts = new Map();
  for (const { machine } of page.machines.values()) counts.set(machine.readiness, (counts.get(machine.readiness) ?? 0) + 1);
  const shown = [...STAGES, ...[...OTHERS].filter(([key]) => counts.has(key))];
  byId('stages').replaceChildren(
    ...shown.map(([key, words]) => {
      const many = counts.get(key) ?? 0;
      return el('li', { class: many === 0 ? 'empty' : key }, el('b', {}, String(many)), ` ${words}`);
    }),
  );
}

function showMoney() {
  const kept = [...page.machines.values()].map(({ machine }) => machine);
  const sum = (of) => kept.reduce((total, machine) => total + (of(machine) ?? 0), 0);
  const { credit, burn_per_hour: burn } = page.money ?? {};
  const figures = [
    ['Burn rate', perHour(known(burn) ? burn : sum((machine) => (isOver(machine) ? 0 : machine.price_per_hour)))],
    ['Cost so far', dollars(sum((machine) => machine.cost_usd))],
    ['Balance', dollars(credit)],
    ['Lasts', lasts()],
  ];
  byId('figures').replaceChildren(...figures.map(([name, value]) => el('div', {}, el('dt', {}, name), el('dd', {}, value))));
  byId('money-words').textContent = 'Burn rate and balance are the whole account\'s; the cost so far is of the machines below, by the local meter, without traffic.';
  byId('chart').hidden = page.money === null;
  drawPlot();
}

function runway() {
  const { credit, burn_per_hour: burn } = page.money ?? {};
  return known(credit) && burn > 0 ? Math.max(credit, 0) / burn : null;
}

const lasts = () => (page.money === null ? '–' : runway() === null ? 'nothing burns' : span(runway()));

const drawPlot = drawnIn(byId('plot'), (place, width) => {
  const hours = runway();
  if (hours === null || page.money.credit <= 0) {
    byId('plot-words').textContent = page.money?.credit <= 0 ? 'The balance is used up.' : 'Nothing is billed by the hour now, so the balance stays.';
    return place.replaceChildren();
  }
  const { credit, burn_per_hour: burn } = page.money;
  const shownHours = Math.min(hours, LONGEST_CHART_H);
  const unit = shownHours > 72 ? { name: 'days', hours: 24 } : shownHours < 3 ? { name: 'minutes', hours: 1 / 60 } : { name: 'hours', hours: 1 };
  const end = shownHours / unit.hours;
  const left = credit - burn * shownHours;
  const x = ticks(0, end, Math.max(3, Math.round(width / 110)));
  const y = ticks(0, credit, 4);
  const chart = axes(
    width,
    PLOT_HEIGHT,
    { ticks: x, label: `${unit.name} from now`, show: (value) => number(value, digitsOf(x)) },
    { ticks: y, label: 'balance, $', show: (value) => number(value, digitsOf(y)) },
  );
  const [x0, y0] = chart.at(0, credit);
  const [x1, y1] = chart.at(end, left);
  const [, floor] = chart.at(0, 0);
  chart.drawing.setAttribute('aria-labelledby', 'chart-title');
  chart.drawing.setAttribute('aria-describedby', 'plot-words');
  chart.drawing.append(
    svg('path', { class: 'area', d: `M${x0} ${floor}L${x0} ${y0}L${x1} ${y1}L${x1} ${floor}Z` }),
    svg('path', { class: 'line', d: `M${x0} ${y0}L${x1} ${y1}` }),
    svg('circle', { class: 'end', cx: x1, cy: y1, r: 5 }),
  );
  place.replaceChildren(chart.drawing);
  byId('plot-words').textContent = plotWords(hours, left);
});

/** The chart in words, for everybody. */
function plotWords(hours, left) {
  const { credit, burn_per_hour: burn } = page.money;
  const start = `At ${perHour(burn)}, as now, ${dollars(credit)}`;
  if (hours > LONGEST_CHART_H) return `${start} last ${span(hours)}; after 30 days ${dollars(left)} are left. Traffic comes on top.`;
  const empty = moment(new Date(Date.now() + hours * 3_600_000), { weekday: 'short', day: 'numeric', month: 'short', hour: '2-digit', minute: '2-digit' });
  return `${start} last ${span(hours)}, until ${empty}. Traffic comes on top.`;
}

// -- looking, one call at a time

/** Whether somebody asked this page to wait: then it goes on with the wait, which also settles and attaches keys. */
const waits = () => page.next?.tool === 'wait_until_ready' && host.context.toolInfo?.tool?.name !== 'instance_status';

async function look() {
  const given = page.given.instance_ids ? { instance_ids: page.given.instance_ids } : {};
  if (page.given.workflow_id) given.workflow_id = page.given.workflow_id;
  const result = waits()
    ? await host.call('wait_until_ready', { ...page.next.arguments, timeout_s: WAIT_S })
    : await host.call('instance_status', given);
  const changes = take(result.structuredContent);
  const money = await host.call('preflight', page.given.workflow_id ? { workflow_id: page.given.workflow_id } : {});
  page.money = money.structuredContent;
  showMoney();
  return changes;
}

async function lookAgain() {
  if (page.busy || !host.callsTools) return;
  await alone(async () => {
    const changes = await tryLook();
    if (changes.length > 0) say(`${inNumber()} ${changes.join('; ')}.`);
  });
}

/** What failed is shown until a look works, and never in place of what an end came to. */
async function tryLook() {
  try {
    const changes = await look();
    page.failures = 0;
    if (page.lookFailed) forgetTrouble();
    return changes;
  } catch (error) {
    page.failures += 1;
    page.lookFailed ||= byId('trouble').hidden;
    if (page.lookFailed) showTrouble(error);
    return [];
  }
}

function forgetTrouble() {
  page.lookFailed = false;
  clearTrouble();
}

/** Each act waits for the one before it. */
function alone(act) {
  page.acts = page.acts.then(() => doAlone(act));
  return page.acts;
}

async function doAlone(act) {
  page.busy = true;
  clearTimeout(page.timer);
  byId('look').disabled = true;
  try {
    await act();
  } finally {
    page.busy = false;
    byId('look').disabled = !host.callsTools;
    page.lookedAt = new Date();
    showLooked();
    schedule();
  }
}

function schedule() {
  clearTimeout(page.timer);
  if (page.paused || document.hidden || !host.callsTools || (living().length === 0 && page.next === null)) return;
  const every = waits() || living().some((machine) => machine.readiness === 'provisioning') ? LOOK_MS.moving : LOOK_MS.steady;
  page.timer = setTimeout(lookAgain, Math.min(every * 2 ** page.failures, LOOK_MS.longest));
}

function showLooked() {
  if (!page.lookedAt) return;
  const at = moment(page.lookedAt, { hour: '2-digit', minute: '2-digit', second: '2-digit' });
  byId('looked').textContent = `Seen at ${at}.${page.paused ? ' Paused.' : ''}`;
}

function pause() {
  page.paused = !page.paused;
  byId('pause').setAttribute('aria-pressed', String(page.paused));
  showLooked();
  schedule();
}

// -- the end of a machine: a second act, and the server's own gate

function askEnd(id) {
  if (byId(`end-${id}`)) return byId(`end-${id}`).querySelector('input').focus();
  const { row, machine } = page.machines.get(id);
  const field = el('input', { type: 'text', inputmode: 'numeric', autocomplete: 'off', id: `typed-${id}` });
  const go = el('button', { type: 'button', class: 'danger primary', disabled: true }, 'Destroy it');
  const typed = () => field.value.trim() === String(id);
  const close = () => { question.remove(); row.querySelector('[data-part="end"]').focus(); };
  let ending = false;
  const ready = () => { go.disabled = ending || !typed(); };
  const act = async () => {
    if (ending || !typed()) return;
    ending = true;
    ready();
    await end(id, () => question.isConnected, close);
    ending = false;
    ready();
  };
  field.addEventListener('input', ready);
  go.addEventListener('click', act);
  const keys = (event) => {
    if (event.key === 'Escape') close();
    if (event.key === 'Enter' && event.target === field) act();
  };
  const question = el(
    'tr',
    { id: `end-${id}`, on: { keydown: keys } },
    el(
      'td',
      { colspan: 5, class: 'question free' },
      el('p', {}, el('strong', {}, `Destroy ${id}`), machine.label ? [' (', el('bdi', {}, machine.label), ')'] : '', '? Its data is lost, and it ends for good.'),
      el('label', { for: `typed-${id}` }, `Type ${id} to go on`),
      el('div', { class: 'buttons' }, field, go, el('button', { type: 'button', on: { click: close } }, 'Keep it')),
    ),
  );
  row.after(question);
  field.focus();
}

/** `wanted`: whether the question still stands when its turn comes. */
async function end(id, wanted, close) {
  say(`Ending ${id}…`);
  await alone(async () => {
    if (!wanted()) return say(`${id} is kept.`);
    forgetTrouble();
    say(`Ending ${id}…`);
    try {
      const { instances: [done] } = (await host.call('destroy_instances', { instance_ids: [id] })).structuredContent;
      close();
      tellEnd(done);
    } catch (error) {
      say(`${id} was not destroyed by this click.`);
      showTrouble(error);
      return tellRefusal(id, error);
    }
    await tryLook();
  });
}

/** The agent has made no call, so only this tells it what to ask and how to go on. */
function tellRefusal(id, error) {
  const { message, ask_user: question, next_call: next } = error instanceof Refused ? error.body : { message: error.message };
  const ask = question ? ` Ask the user: ${question}` : '';
  const then = next ? ` Then call ${next.tool} with ${JSON.stringify(next.arguments)}.` : '';
  host.tell(`On the page of machines the user asked to destroy ${id}; it was not done: ${message}.${ask}${then}`).catch(() => false);
}

/** Gone only where the server saw it gone. */
function tellEnd(done) {
  const cost = known(done.cost_usd) ? ` It cost about ${dollars(done.cost_usd)}.` : '';
  const { machine } = page.machines.get(done.instance_id);
  if (done.final_state === 'gone') {
    say(`${done.instance_id} is gone.${cost}`);
    keep({ ...machine, readiness: 'gone', state: 'gone', ssh: null, cost_usd: done.cost_usd ?? machine.cost_usd, reason: null, warnings: [] });
    show();
    host.tell(`On the page of machines the user destroyed ${done.instance_id}; the server saw it gone.${cost}`).catch(() => false);
  } else {
    say(`${done.instance_id}: ${done.final_state}.`);
    showTrouble(new Error(`${done.instance_id} is ${done.final_state}${done.reason ? `: ${done.reason}` : ''}. It may go on costing: destroy it again.`));
  }
}

byId('look').addEventListener('click', lookAgain);
byId('pause').addEventListener('click', pause);
document.addEventListener('visibilitychange', schedule);

start('vastai-workflow fleet', {
  onInput: (given) => { page.given = given; },
  onResult: (result) => {
    take(result.structuredContent);
    say(inNumber());
    page.lookedAt = new Date();
    lookAgain();
  },
  onFailed: (error) => {
    say(page.machines.size > 0 ? 'What follows was seen before.' : 'There is nothing to show.');
    showTrouble(error);
  },
  onClose: () => { page.paused = true; clearTimeout(page.timer); },
});
