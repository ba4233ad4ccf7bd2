// Why this room exists: the work of the suite in a pull worker, a process of its own that knows nothing but HTTP.
// Next room: test/support/ways/work.ts.
import { work } from './work.ts';

const url = process.argv[2] as string;

interface Lease {
  id: string;
  attempt: number;
  job: { id: string; payload: Parameters<typeof work>[0] };
}

async function call(path: string, body: object, headers: Record<string, string> = {}): Promise<Response> {
  return fetch(`${url}${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(30_000),
  });
}

async function run(lease: Lease): Promise<void> {
  const stop = new AbortController();
  const beats = setInterval(async () => {
    const answer = await call(`/v1/leases/${lease.id}/heartbeat`, {}).catch(() => null);
    if (answer === null) return;
    const { cancel_requested } = (await answer.json()) as { cancel_requested?: boolean };
    if (answer.status === 409 || cancel_requested === true) stop.abort();
  }, 200);
  try {
    const result = await work(
      lease.job.payload,
      { job_id: lease.job.id, attempt: lease.attempt },
      stop.signal,
    );
    await call(`/v1/leases/${lease.id}/complete`, { result });
  } catch (error) {
    await call(`/v1/leases/${lease.id}/fail`, { message: String(error) });
  } finally {
    clearInterval(beats);
  }
}

process.stdout.write('pulling\n');
for (;;) {
  try {
    const answer = await call(
      '/v1/leases',
      { worker: 'puller', types: ['work'], limit: 10 },
      { prefer: 'wait=5' },
    );
    const { leases } = (await answer.json()) as { leases: Lease[] };
    for (const lease of leases) void run(lease).catch(() => {});
  } catch {
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}
