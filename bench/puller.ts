// A pull worker, a process of its own: loops that lease jobs over HTTP and complete them, each awaiting its answers.
// Invariants: loopback only; it ends when as many jobs as it was told are completed, or fails after a minute; what it
// brings back are the ids it was handed, as often as it was handed them.
// Next room: figures/pull.ts, which starts it.
import { Pool } from 'undici';

export interface PullOrder {
  port: number;
  /** Jobs there are. */
  count: number;
  /** Leases and completions that are under way at once. */
  loops: number;
  /** Jobs of one lease call. */
  batch: number;
}

export interface Pulled {
  /** From the first call until the last completion was answered. */
  seconds: number;
  ids: string[];
  node_us: number;
}

interface Lease {
  id: string;
  job: { id: string };
}

const longest_ms = 60_000;

process.once('message', async (order: PullOrder) => {
  const answer = await pull(order).then(
    (value) => ({ value }),
    (error) => ({ error: String(error) }),
  );
  // A disconnect does not wait for a long answer.
  process.send?.(answer, () => process.disconnect());
});

async function pull({ port, count, loops, batch }: PullOrder): Promise<Pulled> {
  const pool = new Pool(`http://127.0.0.1:${port}`, { connections: loops });
  const headers = { 'content-type': 'application/json' };
  const signal = AbortSignal.timeout(longest_ms);
  const post = async (path: string, body: object): Promise<unknown> => {
    const answer = await pool.request({ method: 'POST', path, headers, body: JSON.stringify(body), signal });
    const text = await answer.body.text();
    if (answer.statusCode !== 200) throw new Error(`${path} was answered ${answer.statusCode} ${text}`);
    return JSON.parse(text);
  };
  const complete = async (leases: readonly Lease[]): Promise<void> => {
    const [first] = leases;
    if (first !== undefined && batch === 1) return void (await post(`/v1/leases/${first.id}/complete`, {}));
    const told = (await post('/v1/leases/complete', { leases: leases.map(({ id }) => ({ id })) })) as {
      leases: { state?: string }[];
    };
    const refused = told.leases.find(({ state }) => state !== 'succeeded');
    if (refused !== undefined) throw new Error(`a completion was answered ${JSON.stringify(refused)}`);
  };
  const ids: string[] = [];
  const loop = async (worker: string) => {
    while (ids.length < count) {
      const { leases } = (await post('/v1/leases', { worker, limit: batch })) as { leases: Lease[] };
      if (leases.length === 0) continue;
      for (const { job } of leases) ids.push(job.id);
      await complete(leases);
    }
  };
  const cpu = process.cpuUsage();
  const began = performance.now();
  await Promise.all(Array.from({ length: loops }, (_, n) => loop(`puller-${n}`)));
  const seconds = (performance.now() - began) / 1_000;
  const { user, system } = process.cpuUsage(cpu);
  // What is handed out past the end would be a double.
  const { leases } = (await post('/v1/leases', { limit: 1_000 })) as { leases: Lease[] };
  for (const { job } of leases) ids.push(job.id);
  await pool.close();
  return { seconds, ids, node_us: user + system };
}
