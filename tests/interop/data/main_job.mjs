// The main job through the TypeScript client. Arguments: the era (legacy, auto), then the server's command.
// Prints one line of JSON: the protocol's version, what a call before any yes gets, and how the job ended.
import { Client } from '@modelcontextprotocol/client';
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio';

const [era, command, ...args] = process.argv.slice(2);
const client = new Client(
  { name: 'typescript-client', version: '1.0.0' },
  { capabilities: {}, versionNegotiation: { mode: era } },
);
await client.connect(new StdioClientTransport({ command, args, stderr: 'inherit' }));

async function call(name, given) {
  const result = await client.callTool({ name, arguments: given }, { timeout: 60_000 });
  if (result.isError) throw new Error(`${name}: ${result.content[0].text}`);
  return result.structuredContent;
}

const { tools } = await client.listTools();
const proposal = await call('propose_fields', { gpu_name: 'RTX 4090' });
const workflow = { workflow_id: proposal.workflow_id };
const early = await client.callTool({ name: 'create_instances', arguments: { ...workflow, plan_id: 'p_none' } });
await call('confirm_fields', { ...workflow, digest: proposal.digest });
const plan = await call('find_offers', workflow);
await call('create_instances', { ...workflow, plan_id: plan.plan_id });
let waited = await call('wait_until_ready', workflow);
for (let turn = 0; waited.next_call && turn < 10; turn += 1) waited = await call('wait_until_ready', workflow);
const [machine] = waited.instances;
const ended = await call('destroy_instances', { instance_ids: [machine.instance_id] });

console.log(JSON.stringify({
  version: client.getNegotiatedProtocolVersion?.() ?? null,
  tools: tools.length,
  refused: early.isError === true && early._meta['vastai-workflow/refusal'].code,
  readiness: machine.readiness,
  final_state: ended.instances[0].final_state,
}));
await client.close();
