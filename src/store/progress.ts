// How far a start has come, as its holder says: the latest progress, for whoever watches, and the latest checkpoint, for
// the next start of the job.
// Invariants: written only while the lease of that start stands and the start has not ended; an older start never
// overwrites a newer one. A job that reports nothing has no row.
// Next room: actions/progress.ts, which gathers the writes; actions/claim.ts, which hands a checkpoint to the next start.
import type { Start } from '../domain/start.ts';
import type { Db } from './db.ts';
import { hot, numbers, sql } from './sql.ts';

/** What a start reports, as JSON text; null leaves what is there. */
export interface Report {
  start: Pick<Start, 'lease' | 'job_id' | 'epoch'>;
  progress: string | null;
  checkpoint: string | null;
}

/** Writes reports, one of each job at most; the ids in the answer are those of the starts that still stood. */
export async function writeReports(db: Db, reports: readonly Report[]): Promise<Set<string>> {
  const rows = await db.many(writeProgress, [
    numbers(reports.map(({ start }) => start.lease)),
    numbers(reports.map(({ start }) => start.job_id)),
    numbers(reports.map(({ start }) => start.epoch)),
    reports.map(({ progress }) => progress),
    reports.map(({ checkpoint }) => checkpoint),
  ]);
  return new Set(rows.map((row) => row.job_id));
}

// The leases are locked as a settle locks them, only less: reports do not wait for each other, and an ending that deletes
// the lease comes before or after the report, not in between.
export const writeProgress = hot<{ job_id: string }>('write_progress')`
with h as materialized (
  select id from errand.lease where id = any($1::bigint[]) order by id for key share
), x as materialized (
  select x.*, (progress is not null)::int p, (checkpoint is not null)::int c
  from unnest($1::bigint[], $2::bigint[], $3::int[], $4::text[], $5::text[]) x(lease, job_id, epoch, progress, checkpoint)
  where x.lease = any(array(select id from h))
    and not exists (select from errand.outcome o where o.job_id = x.job_id and o.epoch = x.epoch offset 0)
)
insert into errand.progress as g (job_id, epoch, seq, progress_seq, progress_at, progress,
  checkpoint_seq, checkpoint_at, checkpoint)
select job_id, epoch, p + c, case p when 1 then 1 end, case p when 1 then errand.now() end, progress,
  case c when 1 then p + 1 end, case c when 1 then errand.now() end, checkpoint
from x order by job_id
on conflict (job_id) do update set epoch = excluded.epoch, seq = g.seq + excluded.seq,
  progress_seq = coalesce(g.seq + excluded.progress_seq, g.progress_seq),
  progress_at = coalesce(excluded.progress_at, g.progress_at),
  progress = coalesce(excluded.progress, g.progress),
  checkpoint_seq = coalesce(g.seq + excluded.checkpoint_seq, g.checkpoint_seq),
  checkpoint_at = coalesce(excluded.checkpoint_at, g.checkpoint_at),
  checkpoint = coalesce(excluded.checkpoint, g.checkpoint)
where g.epoch <= excluded.epoch
returning job_id`;

/** The checkpoints of these jobs; a job without one is not in the answer. */
export const findCheckpoints = sql<{ job_id: string; checkpoint: string }>`
select i.id job_id, g.checkpoint from unnest($1::bigint[]) i(id)
cross join lateral (select checkpoint from errand.progress where job_id = i.id and checkpoint is not null offset 0) g`;
