// Why this room exists: jobs that kill whoever runs them, among many that do not, against real worker processes that are
// started again whenever they die.
// Invariant: no worker is left behind, and what is told of the end is read from the tables.
// Next room: poison-worker.ts, the worker.
import type { ChildProcess } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { sql } from '../../src/store/sql.ts';
import { calling } from './call.ts';
import { exitOf, spawnTied } from './children.ts';
import { cloneDatabase, poolOn } from './postgres.ts';
import { neutralEnvironment, startService } from './process.ts';
import { until } from './until.ts';

const worker = fileURLToPath(new URL('./poison-worker.ts', import.meta.url));
const queue = 'poison';

export interface PoisonBooks {
  /** Worker processes that died. */
  deaths: number;
  /** What became of each job, with how many of its starts were lost. */
  jobs: {
    poison: boolean;
    state: string;
    class: string | null;
    lost: number;
    starts: number;
    ends: number;
  }[];
  seconds: number;
}

/** Runs `healthy` jobs with `poison` ones strewn among them, every one of which may be tried `max_attempts` times. */
export async function poisonRun(options: {
  healthy: number;
  poison: number;
  workers: number;
  max_attempts?: number;
  timeoutMs: number;
}): Promise<PoisonBooks> {
  const { healthy, poison, workers, max_attempts = 8, timeoutMs } = options;
  const began = performance.now();
  const database = await cloneDatabase();
  const db = poolOn(database.url, 2);
  const service = await startService({ env: { DATABASE_URL: database.url, ERRAND_LEASE_SECONDS: '2' } });
  const running = new Set<ChildProcess>();
  let [deaths, isOver, names] = [0, false, 0];
  const hire = () => {
    const child = spawnTied(process.execPath, [worker, service.url, queue, `w${names++}`], {
      stdio: 'ignore',
      env: neutralEnvironment(process.env),
    });
    running.add(child);
    child.once('exit', () => {
      running.delete(child);
      if (isOver) return;
      deaths++;
      hire();
    });
  };
  try {
    const { post } = calling(() => service.url);
    const total = healthy + poison;
    const every = Math.floor(total / Math.max(1, poison));
    const all = Array.from({ length: total }, (_, n) => ({
      ...{ queue, type: 'work', max_attempts },
      payload: { poison: n % every === every - 1 && Math.floor(n / every) < poison },
    }));
    for (let n = 0; n < total; n += 1_000) {
      const { status } = await post('/v1/jobs/batch', { jobs: all.slice(n, n + 1_000) });
      if (status !== 202) throw new Error(`the batch was answered ${status}`);
    }
    for (let n = 0; n < workers; n++) hire();
    await until(async () => (await db.one(open)).n === 0, {
      timeoutMs,
      everyMs: 250,
      what: 'every job ends',
    });
    const jobs = await db.many(books);
    return { deaths, jobs, seconds: Math.round((performance.now() - began) / 1_000) };
  } finally {
    isOver = true;
    for (const child of running) child.kill('SIGKILL');
    await Promise.all([...running].map((child) => exitOf(child)));
    await service.stop();
    await db.end();
    await database.drop();
  }
}

const open = sql<{ n: number }>`
select count(*)::int n from errand.job j
where not exists (select from errand.outcome o where o.job_id = j.id and o.status <= 'expired')`;

const books = sql<PoisonBooks['jobs'][number]>`
select (j.payload::jsonb ->> 'poison')::boolean poison, max(o.status::text) filter (where o.status <= 'expired') state,
  max(o.class::text) filter (where o.status <= 'expired') class,
  count(*) filter (where o.status = 'lost')::int lost, count(*)::int starts,
  count(*) filter (where o.status <= 'expired')::int ends
from errand.job j join errand.outcome o on o.job_id = j.id group by j.id, j.payload`;
