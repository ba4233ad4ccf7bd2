// What has happened to jobs, read from what is kept anyway: outcomes, the present lease, the latest progress.
// Invariants: what is told of a job is one consistent look at it; a read is bounded, however often a job has started.
// Next room: domain/timeline.ts, which makes events of it; actions/inspect.ts and actions/watch.ts, which ask.
import type { Mark, StartFacts } from '../domain/timeline.ts';
import type { Db } from './db.ts';
import { hot, numbers, sql } from './sql.ts';

/** Starts of one job that are read at once: at least two, as the first may have been seen. */
export const history_page = 100;

/** A start with the number of its worker. */
export type PastStart = Omit<StartFacts, 'worker'> & { worker: number | null };

/** `History` of domain/timeline.ts before its workers have names. */
export interface PastStarts {
  id: string;
  created_at: Date;
  run_at: Date | null;
  scheduled: boolean;
  blocked: boolean;
  terminal: boolean;
  starts: PastStart[];
  more: boolean;
  progress: Mark | null;
  checkpoint: Mark | null;
}

/** The histories of jobs, each from a start on; undefined where there is no such job. */
export async function readHistories(
  db: Db,
  asks: readonly { id: string; since: number }[],
): Promise<(PastStarts | undefined)[]> {
  const rows = await db.many(findHistories, [
    numbers(asks.map(({ id }) => id)),
    numbers(asks.map(({ since }) => since)),
    history_page + 1,
  ]);
  const found = new Map(rows.map((row) => [row.n, row]));
  return asks.map((_, i) => historyOf(found.get(i + 1)));
}

function historyOf(row: HistoryRow | undefined): PastStarts | undefined {
  if (row === undefined) return undefined;
  const { id, created_at, run_at, scheduled, blocked, terminal } = row;
  const starts = (row.starts ?? []).map((start) => ({
    ...start,
    started_at: momentOf(start.started_at),
    finished_at: momentOf(start.finished_at),
    next_at: momentOf(start.next_at),
  }));
  return {
    ...{ id, created_at, run_at, scheduled, blocked, terminal, starts },
    more: starts.length > history_page,
    progress: markOf(row.progress_epoch, row.progress_seq, row.progress_at, row.progress),
    checkpoint: markOf(row.checkpoint_epoch, row.checkpoint_seq, row.checkpoint_at, row.checkpoint),
  };
}

function momentOf(text: string | null): Date | null {
  return text === null ? null : new Date(text);
}

function markOf(
  epoch: number | null,
  seq: number | null,
  at: Date | null,
  value: string | null,
): Mark | null {
  return epoch === null || seq === null || at === null || value === null ? null : { epoch, seq, at, value };
}

type MomentAsText = 'started_at' | 'finished_at' | 'next_at';

interface HistoryRow {
  n: number;
  id: string;
  created_at: Date;
  run_at: Date | null;
  scheduled: boolean;
  blocked: boolean;
  terminal: boolean;
  starts: (Omit<PastStart, MomentAsText> & Record<MomentAsText, string | null>)[] | null;
  progress_epoch: number | null;
  progress_seq: number | null;
  progress_at: Date | null;
  progress: string | null;
  checkpoint_epoch: number | null;
  checkpoint_seq: number | null;
  checkpoint_at: Date | null;
  checkpoint: string | null;
}

// The row of progress names the start that wrote last; the other of the two was written during the first start that ended
// after it.
export const findHistories = hot<HistoryRow>('find_histories')`
select i.n::int, i.id, j.created_at, j.run_at, j.blk = 0 scheduled, j.blk = -1 blocked, coalesce(t.status <= 'expired', false) terminal, s.starts,
  case when g.progress_seq = g.seq then g.epoch else coalesce((select epoch from errand.outcome
    where job_id = i.id and finished_at >= g.progress_at order by epoch limit 1), g.epoch) end progress_epoch,
  g.progress_seq, g.progress_at, g.progress,
  case when g.checkpoint_seq = g.seq then g.epoch else coalesce((select epoch from errand.outcome
    where job_id = i.id and finished_at >= g.checkpoint_at order by epoch limit 1), g.epoch) end checkpoint_epoch,
  g.checkpoint_seq, g.checkpoint_at, g.checkpoint
from unnest($1::bigint[], $2::int[]) with ordinality i(id, since, n)
cross join lateral (select created_at, run_at, blk from errand.job where job.id = i.id offset 0) j
left join lateral (select place.blk from errand.place where place.job_id = i.id offset 0) p on true
left join lateral (select status, epoch from errand.outcome where job_id = i.id order by epoch desc limit 1) t on true
left join lateral (select json_agg(y order by y.epoch) starts from (
  (select epoch, attempt, status, worker, started_at, finished_at, next_at, class, source, http_status, error, fingerprint,
     created_uri, result is not null has_result
   from errand.outcome where job_id = i.id and epoch >= i.since order by epoch limit $3::int)
  union all
  (select epoch, attempt, null, owner, started_at, null, null, null, null, null, null, null, null, false from errand.lease
   where blk = coalesce(p.blk, j.blk) and j.blk + coalesce(p.blk, 0) > 0 and i.id = any(ids)
     and epoch > coalesce(t.epoch, 0) limit 1)
  order by epoch limit $3) y) s on true
left join lateral (select * from errand.progress where job_id = i.id offset 0) g on true`;

/** The latest starts of a job that are over, newest first. */
export const findAttempts = sql<PastStart>`
select epoch, attempt, status, worker, started_at, finished_at, next_at, class, source, http_status, error, fingerprint,
  created_uri, result is not null has_result
from errand.outcome where job_id = $1::bigint and started_at is not null order by epoch desc limit $2::int`;

/** What changes whenever anything that is told of a job changes, but nothing that could be read from it. */
export const findVersions = hot<{ id: string; version: string }>('find_versions')`
select f.id, concat_ws('.', f.state, f.epoch, f.attempt, f.cancel_requested, f.patches, 'w' || g.seq) version
from errand.job_facts($1::bigint[]) f
left join lateral (select seq from errand.progress where job_id = f.id offset 0) g on true`;
