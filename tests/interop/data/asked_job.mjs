// The TypeScript client asks its user: first a no, then an empty form, then the value that the question names.
// Arguments: the era (legacy, auto), then the server's command. Prints one line of JSON.
import { Client } from '@modelcontextprotocol/client';
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio';

const [era, command, ...args] = process.argv.slice(2);
const client = new Client(
  { name: 'typescript-client', version: '1.0.0' },
  { capabilities: { elicitation: { form: {} } }, versionNegotiation: { mode: era } },
);
const asked = [];
client.setRequestHandler('elicitation/create', async ({ params }) => {
  asked.push(params.message);
  if (asked.length === 1) return { action: 'decline' };
  if (asked.length === 2) return { action: 'accept', content: { value: '' } };
  return { action: 'accept', content: { value: /To agree, type .*: (\S+)/.exec(params.message)[1] } };
});
await client.connect(new StdioClientTransport({ command, args, stderr: 'inherit' }));

async function call(name, given) {
  const result = await client.callTool({ name, arguments: given }, { timeout: 60_000 });
  if (result.isError) throw new Error(`${name}: ${result.content[0].text}`);
  return result.structuredContent;
}

async function refused(name, given) {
  const result = await client.callTool({ name, arguments: given });
  return result.isError === true && result._meta['vastai-workflow/refusal'].code;
}

const proposal = await call('propose_fields', { gpu_name: 'RTX 4090' });
const { tool, arguments: given } = proposal.next_call;
const noes = [await refused(tool, given), await refused(tool, given)];
const agreed = await call(tool, given);
const plan = await call(agreed.next_call.tool, agreed.next_call.arguments);
await call(plan.next_call.tool, plan.next_call.arguments);
const { instances: [machine] } = await call('instance_status', {});
const ended = await call('destroy_instances', { instance_ids: [machine.instance_id] });

console.log(JSON.stringify({
  version: client.getNegotiatedProtocolVersion?.() ?? null,
  questions: proposal.questions,
  noes,
  asked: asked.length,
  first: asked[0].split('?')[0],
  agreed_by: machine.agreed_by.split(', 2')[0],
  final_state: ended.instances[0].final_state,
}));
await client.close();
