// What noise touches least: WAL, statements, buffers and CPU of the server between two moments.
// Invariant: WAL and CPU are those of the whole cluster, so nothing else may run on it between the two.
// Next room: figures/price.ts and figures/snapshot.ts, which read it.
import { setTimeout as pause } from 'node:timers/promises';
import { cpuOfServer } from './accounts.ts';
import type { Ground } from './ground.ts';

/** The counters at one moment, or what was added to them between two. */
export interface Reading {
  wal: number;
  statements: number;
  buffers: number;
  postgres_us: number;
}

export async function read(ground: Ground, url: string): Promise<Reading> {
  const [row] = await ground.ask<Omit<Reading, 'postgres_us'> & Record<string, unknown>>(
    url,
    `select (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::float8 wal, coalesce(sum(calls), 0)::float8 statements,
       coalesce(sum(shared_blks_hit + shared_blks_read), 0)::float8 buffers
     from pg_stat_statements s join pg_database d on d.oid = s.dbid
     where datname = current_database() and toplevel and query not like '%pg_stat_statements%'`,
  );
  return { ...(row as Omit<Reading, 'postgres_us'>), postgres_us: cpuOfServer(ground.pid) };
}

/** Runs `work` and says what it took for each of its `jobs`. */
export async function priceOf(
  ground: Ground,
  url: string,
  jobs: number,
  work: () => Promise<unknown>,
): Promise<Reading> {
  const from = await read(ground, url);
  await work();
  const to = await read(ground, url);
  return {
    wal: (to.wal - from.wal) / jobs,
    statements: (to.statements - from.statements) / jobs,
    buffers: (to.buffers - from.buffers) / jobs,
    postgres_us: (to.postgres_us - from.postgres_us) / jobs,
  };
}

/** Statements by what only their text holds. */
export const marks = {
  submit: 'insert into errand.job (%',
  claim: 'insert into errand.lease (%',
  settle: 'insert into errand.outcome (%',
  promote: 'delete from errand.later where job_id = any(array(%',
  look: 'select lane, prio from r%',
  rescue: 'until < errand.now() order by id%',
} as const;

export type Marked = keyof typeof marks;

export interface Calls {
  calls: number;
  /** What they answered: of a claim its jobs, with a row for each lease and head. */
  rows: number;
  buffers: number;
}

/** Calls, rows and buffers of the marked statements so far. */
export async function callsOf(ground: Ground, url: string): Promise<Record<Marked, Calls>> {
  const names = Object.keys(marks) as Marked[];
  const rows = await ground.ask<Calls & { name: Marked }>(
    url,
    `select m.name, coalesce(sum(calls), 0)::float8 calls, coalesce(sum(rows), 0)::float8 "rows",
       coalesce(sum(shared_blks_hit + shared_blks_read), 0)::float8 buffers
     from unnest($1::text[], $2::text[]) m(name, mark)
     left join (pg_stat_statements s join pg_database d on d.oid = s.dbid and datname = current_database())
       on toplevel and query not like '%pg_stat_statements%' and query like '%' || m.mark
     group by m.name`,
    [names, names.map((name) => marks[name])],
  );
  return Object.fromEntries(rows.map(({ name, ...calls }) => [name, calls])) as Record<Marked, Calls>;
}

/** Waits until a statement with one boolean `empty` says so. */
export async function untilEmpty(ground: Ground, url: string, query: string): Promise<void> {
  const giveUp = performance.now() + 120_000;
  for (;;) {
    const [row] = await ground.ask<{ empty: boolean }>(url, query);
    if (row?.empty === true) return;
    if (performance.now() > giveUp) throw new Error('the store is not empty after 120 s');
    await pause(50);
  }
}
