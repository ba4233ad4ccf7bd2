// What a piece of work cost the database in WAL, statements and transactions: counters that noise does not touch.
// Invariant: WAL is counted for the whole cluster, so nothing else may run on it meanwhile.
// Next room: figures/wal.ts, which lives on them.
import { setTimeout as pause } from 'node:timers/promises';
import type { Ground } from './ground.ts';

// Checks of foreign keys that wait for the commit are counted as statements, but no client sent them.
const sent = `toplevel and query not like '%FOR KEY SHARE OF%'`;

/** The state of the counters at one moment. */
export interface Counters {
  lsn: string;
  statements: number;
  transactions: number;
}

export interface Cost {
  wal: number;
  statements: number;
  transactions: number;
}

export async function countersOf(ground: Ground, url: string): Promise<Counters> {
  // Counters of transactions are flushed by idle backends within a second.
  await pause(1_200);
  const [row] = await ground.ask<Counters>(
    url,
    `select pg_current_wal_insert_lsn()::text lsn, (select coalesce(sum(calls), 0) from pg_stat_statements
       where dbid = d.oid and ${sent})::int statements, pg_stat_get_db_xact_commit(d.oid)::int transactions
     from pg_database d where datname = current_database()`,
  );
  return row as Counters;
}

/** For each of `jobs`. */
export async function costOf(
  ground: Ground,
  url: string,
  { from, to, jobs }: { from: Counters; to: Counters; jobs: number },
): Promise<Cost> {
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

/** How many statements clients have sent to a database so far. */
export async function statementsOf(ground: Ground, url: string): Promise<number> {
  const [row] = await ground.ask<{ statements: number }>(
    url,
    `select coalesce(sum(calls), 0)::int statements from pg_stat_statements s join pg_database d on d.oid = s.dbid
     where datname = current_database() and ${sent}`,
  );
  return row?.statements ?? Number.NaN;
}
