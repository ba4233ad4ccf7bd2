// Why this room exists: whether anything was lost is asked of the database, after everything has settled: each acknowledged
// id is there and ended well, at its first attempt, and nobody's start was lost.
// Next room: mixed-load.ts, which acknowledged them.
import type pg from 'pg';
import { until } from './until.ts';

export interface LoadBooks {
  stored: number;
  /** Acknowledged and not there. */
  lost: string[];
  /** Of all that is stored, and of what was acknowledged. */
  not_succeeded: string[];
  acked_not_succeeded: string[];
  /** Jobs that needed another attempt. */
  burnt: string[];
  /** Starts that ended because nobody renewed their lease. */
  lost_starts: number;
  /** Starts that were given back, which costs no attempt. */
  given_back: number;
}

/** Waits until nothing is open any more, then compares. */
export async function loadBooks(
  truth: pg.Pool,
  acked: ReadonlySet<string>,
  settle_ms: number,
): Promise<LoadBooks> {
  const isSettled = async () => {
    const { rows } = await truth.query<{ open: number }>(
      `select (select count(*) from errand.job)::int
         - (select count(distinct job_id) from errand.outcome where status <= 'expired')::int open`,
    );
    return rows[0]?.open === 0;
  };
  // What has not settled by then is told by the books.
  await until(isSettled, { timeoutMs: settle_ms, everyMs: 250 }).catch(() => {});
  const { rows: jobs } = await truth.query<{ id: string; state: string; attempt: number }>(
    `select f.id, f.state, f.attempt from (select array_agg(id) ids from errand.job) a
     cross join lateral errand.job_facts(a.ids) f`,
  );
  const { rows: starts } = await truth.query<{ status: string; n: number }>(
    'select status::text, count(*)::int n from errand.outcome group by 1',
  );
  const ids = new Set(jobs.map(({ id }) => id));
  const other = jobs.filter(({ state }) => state !== 'succeeded');
  const count = (status: string) => starts.find((row) => row.status === status)?.n ?? 0;
  return {
    stored: jobs.length,
    lost: [...acked].filter((id) => !ids.has(id)),
    not_succeeded: other.map(({ id, state }) => `${id} ${state}`),
    acked_not_succeeded: other.filter(({ id }) => acked.has(id)).map(({ id, state }) => `${id} ${state}`),
    burnt: jobs.filter(({ attempt }) => attempt > 1).map(({ id }) => id),
    lost_starts: count('lost'),
    given_back: count('released'),
  };
}
