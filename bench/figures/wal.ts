// Figure: bytes of WAL for each job, enqueued, run and kept as history, with the statements and transactions that took.
// Invariant: WAL is counted for the whole cluster, so nothing else runs on it; the rounds are therefore not interleaved
// with anything.
// Next room: drain.ts, whose contestant runs the jobs.
import { enter } from '../contestant.ts';
import type { Figure, FigureOptions } from '../figure.ts';
import type { Ground } from '../ground.ts';
import { spreadOf } from '../measure.ts';
import { payloadText } from '../payload.ts';

const jobs = 50_000;
const concurrency = 1_000;

/** The state of the counters at one moment. */
interface Counters {
  lsn: string;
  statements: number;
  transactions: number;
}

interface Cost {
  wal: number;
  statements: number;
  transactions: number;
}

export async function wal({ rounds = 3, ground, say }: FigureOptions): Promise<Figure> {
  const costs: { fill: Cost; run: Cost; postgres_us: number }[] = [];
  for (let round = 0; round < rounds; round++) {
    const cost = await measure(ground, `wal_${round}`);
    costs.push(cost);
    say(`wal, round ${round + 1}: ${Math.round(cost.fill.wal)} + ${Math.round(cost.run.wal)} B/job`);
  }
  const line = (what: string, unit: string, pick: (cost: (typeof costs)[number]) => number) => ({
    what,
    unit,
    spread: spreadOf(costs.map(pick)),
  });
  return {
    name: 'wal',
    title: 'WAL for each job: enqueue + run + history',
    goals: [
      {
        what: 'WAL: enqueue + run + history, batched',
        ...{ at: 'most', value: 700, stretch: 620, unit: 'B/job' },
        seen: spreadOf(costs.map(({ fill, run }) => fill.wal + run.wal)),
      },
    ],
    lines: [
      line('WAL of the enqueue', 'B/job', (cost) => cost.fill.wal),
      line('WAL of the run, history included', 'B/job', (cost) => cost.run.wal),
      line('statements of the enqueue', '/job', (cost) => cost.fill.statements),
      line('statements of the run', '/job', (cost) => cost.run.statements),
      line('transactions of the enqueue', '/job', (cost) => cost.fill.transactions),
      line('transactions of the run', '/job', (cost) => cost.run.transactions),
      line('database CPU of the run', 'µs/job', (cost) => cost.postgres_us),
    ],
    setup: {
      jobs: String(jobs),
      payload: `${payloadText.length} bytes`,
      enqueue: '1,000 submits in flight, coalesced',
      run: `in-process handler, ${concurrency} slots, no result`,
    },
    checks: ['alone on the cluster', 'delivered = unique = enqueued in every round'],
  };
}

async function measure(ground: Ground, database: string) {
  const url = await ground.database(database);
  const stage = enter('errand', url);
  try {
    await stage.ask('prepare', {});
    const start = await count(ground, url);
    await stage.ask('fill', { count: jobs });
    const filled = await count(ground, url);
    const drained = await stage.ask('drain', { count: jobs, concurrency, postmaster: ground.pid });
    const ran = await count(ground, url);
    if (drained.delivered !== jobs || drained.unique !== jobs) {
      throw new Error(`delivered ${drained.delivered}, unique ${drained.unique} of ${jobs}; no figure`);
    }
    return {
      fill: await between(ground, url, start, filled),
      run: await between(ground, url, filled, ran),
      postgres_us: drained.postgres_us / jobs,
    };
  } finally {
    await stage.leave();
  }
}

async function count(ground: Ground, url: string): Promise<Counters> {
  // Counters of transactions are flushed by idle backends within a second.
  await new Promise((resolve) => setTimeout(resolve, 1_200));
  const [row] = await ground.ask<Counters>(
    url,
    `select pg_current_wal_insert_lsn()::text lsn, (select coalesce(sum(calls), 0) from pg_stat_statements
       where dbid = d.oid and toplevel)::int statements, pg_stat_get_db_xact_commit(d.oid)::int transactions
     from pg_database d where datname = current_database()`,
  );
  return row as Counters;
}

async function between(ground: Ground, url: string, from: Counters, to: Counters): Promise<Cost> {
  const [row] = await ground.ask<{ bytes: number }>(url, 'select ($1::pg_lsn - $2::pg_lsn)::float8 bytes', [
    to.lsn,
    from.lsn,
  ]);
  return {
    wal: (row as { bytes: number }).bytes / jobs,
    statements: (to.statements - from.statements) / jobs,
    transactions: (to.transactions - from.transactions) / jobs,
  };
}
