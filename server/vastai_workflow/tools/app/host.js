// The page's half of MCP Apps (protocol 2026-01-26): JSON-RPC over postMessage with the host that shows it.
const PROTOCOL = '2026-01-26';
const REFUSAL = 'vastai-workflow/refusal';
const ANSWER_MS = 120_000;

const host = {
  context: {},
  capabilities: {},
  /** What the page does at each of the host's notifications, by method. */
  on: new Map(),

  /** Shake hands; from then on the host sends the tool's input and result. */
  async connect(name) {
    window.addEventListener('message', receive);
    const answer = await request('ui/initialize', {
      appInfo: { name, version: '1' },
      appCapabilities: { availableDisplayModes: ['inline', 'fullscreen'] },
      protocolVersion: PROTOCOL,
    });
    host.capabilities = answer.hostCapabilities ?? {};
    applyContext(answer.hostContext ?? {});
    notify('ui/notifications/initialized', {});
    reportSize();
  },

  /** Call a tool of the server through the host: its structured answer, or a Refused. */
  async call(name, given) {
    const result = await request('tools/call', { name, arguments: given });
    if (result.isError) throw new Refused(refusalOf(result));
    return result;
  },

  get callsTools() { return Boolean(host.capabilities.serverTools); },

  /** Tell the agent what happened here, for its next turn; false where the host has no way. */
  async tell(text) {
    if (!host.capabilities.updateModelContext) return false;
    await request('ui/update-model-context', { content: [{ type: 'text', text }] });
    return true;
  },
};

/** The server said no: code, message, ask_user, next_call, and the next step in words. */
class Refused extends Error {
  constructor(body) {
    super(body.message);
    this.body = body;
  }
}

const waiting = new Map();
let lastId = 0;

function post(message) {
  window.parent.postMessage({ jsonrpc: '2.0', ...message }, '*'); // the host's origin is not known to a sandboxed page
}

function notify(method, params) {
  post({ method, params });
}

function request(method, params) {
  lastId += 1;
  const id = lastId;
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => {
      waiting.delete(id);
      reject(new Error(`no answer within ${ANSWER_MS / 1000} s: what came of it is not known`));
    }, ANSWER_MS);
    waiting.set(id, { resolve, reject, timer });
    post({ id, method, params });
  });
}

function receive(event) {
  const message = event.data;
  if (event.source !== window.parent || message?.jsonrpc !== '2.0') return;
  if (message.method === undefined) settle(message);
  else if (message.id === undefined) hear(message.method, message.params ?? {});
  else answer(message);
}

function settle(message) {
  const call = waiting.get(message.id);
  if (!call) return;
  waiting.delete(message.id);
  clearTimeout(call.timer);
  if (message.error) call.reject(new Error(message.error.message));
  else call.resolve(message.result);
}

function hear(method, params) {
  if (method === 'ui/notifications/host-context-changed') applyContext(params);
  host.on.get(method)?.(params);
}

function answer(message) {
  if (message.method === 'ui/resource-teardown') host.on.get(message.method)?.();
  else if (message.method !== 'ping') {
    post({ id: message.id, error: { code: -32601, message: `unknown method ${message.method}` } });
    return;
  }
  post({ id: message.id, result: {} });
}

/** Theme, colours, fonts and safe edges as the host has them; without them the page has its own. */
function applyContext(changed) {
  Object.assign(host.context, changed);
  const root = document.documentElement;
  if (changed.theme === 'light' || changed.theme === 'dark') root.style.colorScheme = changed.theme;
  for (const [name, value] of Object.entries(changed.styles?.variables ?? {})) {
    if (name.startsWith('--') && typeof value === 'string') root.style.setProperty(name, value);
  }
  for (const [side, pixels] of Object.entries(changed.safeAreaInsets ?? {})) {
    if (Number.isFinite(pixels)) root.style.setProperty(`--inset-${side}`, `${pixels}px`);
  }
}

/** The host gives the page the height that it needs. */
function reportSize() {
  let last = 0;
  const report = () => {
    const height = Math.ceil(document.documentElement.getBoundingClientRect().height);
    if (height !== last) notify('ui/notifications/size-changed', { height });
    last = height;
  };
  new ResizeObserver(report).observe(document.documentElement);
  report();
}

/** The body of a refusal: under _meta, or in the second text where a host drops that. */
function refusalOf(result) {
  const [sentence, compact] = (result.content ?? []).filter((block) => block.type === 'text').map((block) => block.text);
  const step = sentence?.split(' Next: ')[1]?.split(' Ask the user: ')[0];
  const kept = result._meta?.[REFUSAL];
  if (kept) return { ...kept, step };
  try {
    return { ...JSON.parse(compact), step };
  } catch {
    return { code: 'unknown', message: sentence ?? 'the call failed' };
  }
}
