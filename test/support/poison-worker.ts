// Why this room exists: a pull worker that dies of what it is given, as one does that runs out of memory: at once, without a
// word, and with everything else it had leased.
// Next room: poison.ts, which starts it over and over.
const [url = '', queue = '', worker = ''] = process.argv.slice(2);

interface Lease {
  id: string;
  job: { payload: { poison: boolean } };
}

async function post(path: string, body: object): Promise<{ leases: Lease[] }> {
  const answer = await fetch(`${url}${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', prefer: 'wait=2' },
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(10_000),
  });
  if (!answer.ok) throw new Error(`${path} answered ${answer.status}`);
  return (await answer.json()) as { leases: Lease[] };
}

for (;;) {
  const { leases } = await post('/v1/leases', { worker, queues: [queue], limit: 50, lease_seconds: 2 });
  for (const { job } of leases) if (job.payload.poison) process.kill(process.pid, 'SIGKILL');
  if (leases.length > 0) await post('/v1/leases/complete', { leases: leases.map(({ id }) => ({ id })) });
}
