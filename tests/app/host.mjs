// A host of MCP Apps as hosts are built: a real MCP client, a real AppBridge, and a sandboxed frame with the policy that
// the specification asks for. The test beside it carries the client's messages to the server's stdio and back.
import { AppBridge, PostMessageTransport, getToolUiResourceUri } from '@modelcontextprotocol/ext-apps/app-bridge';
import { Client } from '@modelcontextprotocol/client';

const APPS = { 'io.modelcontextprotocol/ui': { mimeTypes: ['text/html;profile=mcp-app'] } };

/** The client's end of the server's stdio. */
class Wire {
  async start() { globalThis.fromServer = (line) => this.onmessage?.(JSON.parse(line)); }
  async send(message) { await globalThis.toServer(JSON.stringify(message)); }
  async close() { this.onclose?.(); }
}

/** What the specification makes of the domains that a page asks for: these pages may ask for none. */
function policy(csp) {
  const [connect, load] = [csp?.connectDomains ?? [], csp?.resourceDomains ?? []];
  if (connect.length + load.length > 0) throw new Error('a page that asks for the network');
  return "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; connect-src 'none'";
}

/** The client's user types what the question names. */
async function askUser({ params }) {
  host.asked.push(params.message);
  return { action: 'accept', content: { value: /To agree, type .*: (\S+)/.exec(params.message)[1] } };
}

let client;
let tools;
let bridge;

globalThis.host = {
  sizes: [],
  told: [],
  asked: [],

  async connect(era, extensions, asks) {
    client = new Client(
      { name: 'app-host', version: '1.0.0' },
      {
        capabilities: { ...(extensions ? { extensions: APPS } : {}), ...(asks ? { elicitation: { form: {} } } : {}) },
        versionNegotiation: { mode: era },
      },
    );
    if (asks) client.setRequestHandler('elicitation/create', askUser);
    await client.connect(new Wire());
    ({ tools } = await client.listTools());
  },

  /** A call as the agent makes it. */
  async call(name, given) {
    return client.callTool({ name, arguments: given }, { timeout: 120_000 });
  },

  /** Show the page of a tool: with the call's result, or with none yet. */
  async open(name, given, { capabilities, context, result, silent } = {}) {
    const tool = tools.find((one) => one.name === name);
    const uri = getToolUiResourceUri(tool);
    const { contents: [page] } = await client.readResource({ uri });
    await bridge?.close();
    document.querySelector('iframe')?.remove();
    const frame = Object.assign(document.createElement('iframe'), { title: 'app', sandbox: 'allow-scripts' });
    document.body.append(frame);
    host.sizes.length = 0;
    bridge = new AppBridge(
      client,
      { name: 'app-host', version: '1.0.0' },
      capabilities ?? { serverTools: {}, updateModelContext: { text: {} } },
      { hostContext: { toolInfo: { tool }, ...context } },
    );
    bridge.onsizechange = ({ height }) => { host.sizes.push(height); frame.style.height = `${height}px`; };
    bridge.onupdatemodelcontext = async ({ content }) => { host.told.push(content[0].text); return {}; };
    const ready = new Promise((resolve) => { bridge.oninitialized = resolve; });
    await bridge.connect(new PostMessageTransport(frame.contentWindow, frame.contentWindow));
    frame.srcdoc = page.text.replace(
      '<head>',
      `<head><meta http-equiv="Content-Security-Policy" content="${policy(page._meta?.ui?.csp)}">`,
    );
    await ready;
    if (silent) return;
    await bridge.sendToolInput({ arguments: given });
    await bridge.sendToolResult(result ?? (await host.call(name, given)));
  },

  context(changed) { bridge.setHostContext(changed); },
  cancel(reason) { return bridge.sendToolCancelled({ reason }); },
  teardown() { return bridge.teardownResource({}); },
};
