// Why this room exists: what a caller is told by a queue that is full is judged by what happens then, in a test with patience and
// in a drill without.
// Invariant: nothing is assumed of how fast the jobs are: the truth is the moment at which the queue took a job again.
// Next room: test/roles/guards.test.ts and test/drills/guards.ts.
import { setTimeout as pause } from 'node:timers/promises';
import pg from 'pg';
import { defineHandler } from '../../src/errand.ts';
import { startErrand } from './errand.ts';
import { until } from './until.ts';

/** One refusal: what it told, and how long it was until the queue took jobs again. */
export interface Told {
  said_seconds: number;
  was_seconds: number;
  problem: Record<string, unknown>;
}

export interface DrainBooks {
  told: Told[];
  /** What became of critical jobs while the others were refused. */
  critical: number[];
  /** Of a batch of a critical and a usual job: its status, and that of each where they are stored apart. */
  atomic: number;
  apart: number[];
  /** The status a submit would have by its validation. */
  validated: number;
  replayed: number;
  /** Ready jobs, by their blocks, when a job was refused first and when one was taken again. */
  closed_at: number;
  opened_at: number;
}

/** Fills a queue to its limit while it drains steadily, and asks it again and again until it takes jobs. */
export async function guardedDrain(options: {
  max_depth: number;
  /** Jobs that run at once, and for how long each. */
  slots: number;
  run_ms: number;
  /** How often it is asked, in ms. */
  ask_ms: number;
}): Promise<DrainBooks> {
  const { max_depth, slots, run_ms, ask_ms } = options;
  const errand = await startErrand({
    env: { ERRAND_HANDLER_CONCURRENCY: String(slots), ERRAND_LEASE_SECONDS: '30' },
    handlers: [defineHandler({ type: 'work', run: () => pause(run_ms) })],
  });
  const client = new pg.Client({ connectionString: errand.databaseUrl });
  await client.connect();
  const post = (path: string, body: unknown, headers: Record<string, string> = {}) =>
    fetch(new URL(path, errand.url), {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: JSON.stringify(body),
    });
  const job = (priority = 5) => ({ queue: 'guarded', type: 'work', priority });
  const ready = async () =>
    (await client.query('select coalesce(sum(cardinality(ids) - pos), 0)::int n from errand.block')).rows[0]
      .n as number;
  try {
    await client.query("insert into errand.queue (name, settings) values ('guarded', $1)", [
      JSON.stringify({ max_depth }),
    ]);
    await client.query('update errand.lever_turn set turn = turn + 1');
    await until(() => errand.actions.guards.concerns('guarded', 5));
    await post('/v1/jobs', job(), { 'idempotency-key': 'before' });
    for (let left = max_depth; left > 0; left -= 1_000) {
      const jobs = Array.from({ length: Math.min(left, 1_000) }, () => job());
      await post('/v1/jobs/batch', { jobs });
    }
    let refused = await post('/v1/jobs', job());
    while (refused.status === 202) refused = await post('/v1/jobs', job());
    const closed_at = await ready();
    const opened = errand.next('guard.moved', ({ closed_by }) => closed_by === null, 300_000);
    const asked: { at: number; said_seconds: number; problem: Record<string, unknown> }[] = [];
    const critical: number[] = [];
    let isOpen = false;
    const openedAt = opened.then(async () => {
      isOpen = true;
      return { at: performance.now(), ready: await ready() };
    });
    const atomic = (await post('/v1/jobs/batch', { jobs: [job(0), job()] })).status;
    const apart = (await (await post('/v1/jobs/batch', { jobs: [job(0), job()], atomic: false })).json()) as {
      items: { status: number }[];
    };
    const { refusal } = (await (await post('/v1/jobs/validate', job())).json()) as {
      refusal: { status: number } | null;
    };
    const validated = refusal?.status ?? 200;
    const replayed = (await post('/v1/jobs', job(), { 'idempotency-key': 'before' })).status;
    while (!isOpen) {
      const at = performance.now();
      const answer = await post('/v1/jobs', job());
      const problem = (await answer.json()) as Record<string, unknown>;
      if (answer.status === 202) break;
      asked.push({ at, said_seconds: Number(answer.headers.get('retry-after')), problem });
      critical.push((await post('/v1/jobs', job(0))).status);
      await Promise.race([pause(ask_ms), opened]);
    }
    const { at, ready: opened_at } = await openedAt;
    const told = asked.map((one) => ({
      said_seconds: one.said_seconds,
      was_seconds: (at - one.at) / 1_000,
      problem: one.problem,
    }));
    const statuses = apart.items.map(({ status }) => status);
    return { told, critical, atomic, apart: statuses, validated, replayed, closed_at, opened_at };
  } finally {
    await client.end();
    await errand.stop();
  }
}
