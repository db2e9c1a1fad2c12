// The TypeScript client rents one machine, following each next call; its user types what the question names.
// Arguments: the era (legacy, auto), then the server's command.
import { Client } from '@modelcontextprotocol/client';
import { StdioClientTransport } from '@modelcontextprotocol/client/stdio';

const [era, command, ...args] = process.argv.slice(2);
const client = new Client(
  { name: 'typescript-client', version: '2.4.0' },
  { capabilities: { elicitation: { form: {} } }, versionNegotiation: { mode: era } },
);
client.setRequestHandler('elicitation/create', async ({ params }) => ({
  action: 'accept',
  content: { value: /To agree, type .*: (\S+)/.exec(params.message)[1] },
}));
await client.connect(new StdioClientTransport({ command, args, stderr: 'inherit' }));

let next = { tool: 'propose_fields', arguments: { gpu_name: 'RTX 4090' } };
let called;
do {
  called = next.tool;
  const result = await client.callTool({ name: called, arguments: next.arguments });
  if (result.isError) throw new Error(`${called}: ${result.content[0].text}`);
  next = result.structuredContent.next_call;
} while (called !== 'create_instances');
await client.callTool({ name: 'instance_status', arguments: {} });
await client.close();
