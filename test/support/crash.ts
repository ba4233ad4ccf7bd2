// Why this room exists: the promise of a 202 can only be seen by breaking things while jobs flow. This is the load, the
// fault and the checker of the crash test and the crash drill: two replicas, handlers and pull workers, kill -9 in turn.
// Invariant: the checker believes only what was answered over HTTP and what the database holds afterwards; a run that
// never met its rare path says so.
// Next room: test/system/crash.test.ts and test/drills/crash.ts.
import { randomUUID } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { cloneDatabase } from './postgres.ts';
import { type Service, startService } from './process.ts';
import { until } from './until.ts';

export interface CrashOptions {
  jobs: number;
  /** Time between two kills, in ms. */
  killEveryMs: number;
  /** Jobs submitted at once. */
  submitters: number;
  pullers: number;
  quiesceMs: number;
}

export interface CrashReport {
  acked: number;
  kills: number;
  lost: string[];
  not_terminal: { id: string; state: string }[];
  /** Dead as poison after three losses in a row, as promised: a kill may meet the same job again and again. */
  convicted: string[];
  twice_terminal: string[];
  keys_with_two_jobs: string[];
  running_without_lease: number;
  stale_refused: number;
  stale_accepted: string[];
  starts: number;
  duplicate_starts: number;
  /** From the start to its end as lost, for starts nobody renewed: the lease of 2 s and the time to notice. */
  slowest_recovery_seconds: number;
  seconds: number;
}

const handlersDir = fileURLToPath(new URL('./handlers', import.meta.url));

/** Runs the load under kills, lets it settle, and reports what is true. */
export async function crashRun(options: CrashOptions): Promise<CrashReport> {
  const began = performance.now();
  const database = await cloneDatabase();
  const effects = await cloneDatabase();
  const books = new pg.Pool({ connectionString: effects.url, max: 10 });
  books.on('error', () => {});
  await books.query(
    'create table effect (job_id bigint, epoch int, attempt int, holder text, at timestamptz default clock_timestamp())',
  );
  const env = {
    DATABASE_URL: database.url,
    EFFECTS_URL: effects.url,
    ERRAND_HANDLERS_DIR: handlersDir,
    ERRAND_LEASE_SECONDS: '2',
    ERRAND_LOG_LEVEL: 'error',
  };
  const replicas: (Service | null)[] = await Promise.all([startService({ env }), startService({ env })]);
  const ports = replicas.map((replica) => String(replica?.port));
  const urls = replicas.map((replica) => replica?.url as string);
  const acked = new Map<string, string>();
  const report = { stale_refused: 0, stale_accepted: [] as string[], kills: 0 };
  let flowing = true;

  async function call(path: string, body: unknown, headers: Record<string, string> = {}): Promise<Response> {
    const url = urls[Math.floor(Math.random() * urls.length)];
    return fetch(`${url}${path}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', ...headers },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(10_000),
    });
  }

  let next = 0;
  async function submitter(): Promise<void> {
    while (next < options.jobs) {
      const n = next++;
      const key = randomUUID();
      for (;;) {
        try {
          const type = n % 2 === 0 ? 'effect' : 'pulled';
          const delay = n % 10 === 0 ? { delay_seconds: 1 } : {};
          const body = { type, payload: { n }, max_attempts: 50, ...delay };
          const answer = await call('/v1/jobs', body, { 'idempotency-key': key });
          const text = await answer.text();
          if (answer.status === 202) {
            acked.set((JSON.parse(text) as { id: string }).id, key);
            break;
          }
          if (answer.status < 500 && answer.status !== 409) throw new Refused(`${answer.status} ${text}`);
        } catch (error) {
          if (error instanceof Refused) throw error;
        }
        await pause(20);
      }
    }
  }

  async function puller(name: string): Promise<void> {
    for (let turn = 0; flowing; turn++) {
      try {
        const answer = await call(
          '/v1/leases',
          { worker: name, types: ['pulled'], limit: 3, lease_seconds: 2 },
          { prefer: 'wait=1' },
        );
        if (answer.status !== 200) throw new Error(String(answer.status));
        const { leases } = (await answer.json()) as {
          leases: { id: string; epoch: number; attempt: number; job: { id: string } }[];
        };
        for (const lease of leases) {
          await books.query('insert into effect (job_id, epoch, attempt, holder) values ($1, $2, $3, $4)', [
            lease.job.id,
            lease.epoch,
            lease.attempt,
            name,
          ]);
        }
        // Now and then a worker is paused past its lease and brings its result too late.
        const paused = leases.length > 0 && turn % 12 === 11;
        const late = paused && (await untilLost(leases));
        await Promise.all(leases.map((lease) => complete(lease, late)));
      } catch {
        await pause(50);
      }
    }
  }

  const truth = new pg.Pool({ connectionString: database.url, max: 4 });
  truth.on('error', () => {});

  /** Waits until every start of these leases has ended otherwise; false when that took too long to count. */
  function untilLost(leases: { epoch: number; job: { id: string } }[]): Promise<boolean> {
    const ids = leases.map((lease) => lease.job.id);
    const epochs = leases.map((lease) => lease.epoch);
    const allLost = async (): Promise<boolean> => {
      const { rows } = await truth.query<{ n: number }>(
        `select count(*)::int n from unnest($1::bigint[], $2::int[]) x(id, epoch)
         join errand.outcome o on o.job_id = x.id and o.epoch = x.epoch`,
        [ids, epochs],
      );
      return rows[0]?.n === leases.length;
    };
    return until(allLost, { timeoutMs: 15_000, everyMs: 200 }).then(
      () => true,
      () => false,
    );
  }

  async function complete(lease: { id: string; job: { id: string } }, late: boolean): Promise<void> {
    for (let n = 0; n < 100 && flowing; n++) {
      try {
        const answer = await call(`/v1/leases/${lease.id}/complete`, { result: { by: 'puller' } });
        await answer.text();
        if (answer.status === 409) report.stale_refused++;
        else if (answer.status === 200 && late) report.stale_accepted.push(lease.job.id);
        if (answer.status < 500) return;
      } catch {
        // The replica is gone: the other one, or this one restarted, takes the same call.
      }
      await pause(50);
    }
  }

  async function killer(): Promise<void> {
    for (let turn = 0; flowing; turn++) {
      await pause(options.killEveryMs);
      if (!flowing) return;
      const victim = turn % replicas.length;
      await replicas[victim]?.kill9();
      report.kills++;
      replicas[victim] = await startService({ env: { ...env, PORT: ports[victim] as string } });
    }
  }

  try {
    const pullers = Array.from({ length: options.pullers }, (_, n) => puller(`puller-${n}`));
    const killing = killer();
    await Promise.all(Array.from({ length: options.submitters }, submitter));
    const ids = [...acked.keys()];
    await until(async () => (await openJobs(truth)) === 0, {
      timeoutMs: options.quiesceMs,
      everyMs: 250,
    }).catch(() => {});
    flowing = false;
    await killing;
    await Promise.all(pullers);
    const seconds = Math.round((performance.now() - began) / 1_000);
    return { ...report, ...(await check(truth, books, ids, acked)), acked: ids.length, seconds };
  } finally {
    flowing = false;
    await Promise.all(replicas.map((replica) => replica?.kill9()));
    await truth.end();
    await books.end();
    await database.drop();
    await effects.drop();
  }
}

class Refused extends Error {}

async function openJobs(truth: pg.Pool): Promise<number> {
  const { rows } = await truth.query<{ n: number }>(
    `select (select count(*) from errand.job)::int - (select count(distinct job_id) from errand.outcome where status <= 'expired')::int n`,
  );
  return rows[0]?.n ?? -1;
}

async function check(truth: pg.Pool, books: pg.Pool, ids: string[], acked: ReadonlyMap<string, string>) {
  const facts = await truth.query<{ id: string; state: string }>(
    'select id, state from errand.job_facts($1)',
    [ids],
  );
  const present = new Set(facts.rows.map((row) => row.id));
  const poison = await truth.query<{ job_id: string }>(
    `select o.job_id from errand.outcome o where o.status = 'dead' and o.class = 'poison' and 2 <= (
       select count(*) from errand.outcome l where l.job_id = o.job_id and l.status = 'lost')`,
  );
  const convicted = new Set(poison.rows.map((row) => row.job_id));
  const twice = await truth.query<{ job_id: string }>(
    `select job_id from errand.outcome where status <= 'expired' group by job_id having count(*) > 1`,
  );
  const keys = new Map<string, Set<string>>();
  const stored = await truth.query<{ key: string; job_id: string }>('select key, job_id from errand.idem');
  for (const { key, job_id } of stored.rows) keys.set(key, (keys.get(key) ?? new Set()).add(job_id));
  for (const [id, key] of acked) keys.set(key, (keys.get(key) ?? new Set()).add(id));
  const zombies = await truth.query<{ n: number }>(
    `select count(*)::int n from errand.job j cross join lateral errand.job_facts(array[j.id]) f
     where f.state = 'running' and not exists (
       select from errand.lease l where f.id = any(l.ids) and l.until > now() - interval '5 s')`,
  );
  const starts = await books.query<{ starts: number; twice: number }>(
    `select count(*)::int starts, coalesce(sum(n - 1), 0)::int twice
     from (select count(*) n from effect group by job_id) x`,
  );
  const sameEpoch = await books.query<{ job_id: string }>(
    'select job_id from effect group by job_id, epoch having count(*) > 1',
  );
  const recovery = await truth.query<{ s: number }>(
    `select coalesce(max(extract(epoch from finished_at - started_at)), 0)::float8 s
     from errand.outcome where status = 'lost'`,
  );
  return {
    slowest_recovery_seconds: recovery.rows[0]?.s ?? -1,
    lost: ids.filter((id) => !present.has(id)),
    not_terminal: facts.rows.filter((row) => row.state !== 'succeeded' && !convicted.has(row.id)),
    convicted: [...convicted],
    twice_terminal: [...twice.rows, ...sameEpoch.rows].map((row) => row.job_id),
    keys_with_two_jobs: [...keys].filter(([, jobs]) => jobs.size > 1).map(([key]) => key),
    running_without_lease: zombies.rows[0]?.n ?? -1,
    starts: starts.rows[0]?.starts ?? 0,
    duplicate_starts: starts.rows[0]?.twice ?? 0,
  };
}
