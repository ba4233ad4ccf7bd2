// Dead letters as operations meet them: found in the order of death, taken by one operation at a time, set aside and put back.
// Invariant: a letter that another is dealing with is passed over, never waited for.
// Next room: actions/redrive-many.ts, actions/discard.ts.
import { type Statement, sql } from './sql.ts';

/** A letter that fits, or, with `job_id` null, the last that was looked at. */
export interface WalkedLetter {
  job_id: string | null;
  lane: number;
  type: string | null;
  key: [died_at: string, job_id: string];
  looked: number;
}

const letters = `
  select d.*, j.type, row_number() over () looked,
    ($5::int[] is null or d.lane = any($5)) and ($6::text is null or d.class::text = $6)
      and ($7::text is null or d.fingerprint = $7) and ($8::text is null or $8 = any(j.tags))
      and ($9::timestamptz is null or d.died_at < $9) and ($10::text is null or d.source::text = $10)
      and ($11::int is null or d.http_status = $11) hit
  from (
    select job_id, lane, class, source, http_status, fingerprint, died_at from errand.dead_letter
    where discarded_by is null and (died_at, (job_id + 0)) > ($1::timestamptz, $2::bigint)
      and died_at >= $3::timestamptz and died_at <= $4::timestamptz
    order by died_at, (job_id + 0) limit $12::int) d
  cross join lateral (select tags, options ->> 'type' "type" from errand.job where job.id = d.job_id offset 0) j`;

/**
 * Letters by death: $1 moment and $2 id behind which to begin, $3 and $4 died not before and not after, $5 lanes or null, $6
 * error class, $7 fingerprint, $8 tag, $9 before or null, $10 source, $11 HTTP status, $12
 * rows to look at, $13 rows to answer.
 */
export const walkLetters: Statement<WalkedLetter> = {
  text: `
select case when w.hit then w.job_id end job_id, w.lane, w.type, w.looked::int,
  array[to_char(w.died_at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), w.job_id::text] key
from (${letters}) w
where w.hit or w.looked = $12
limit $13::int`,
};

/** How many letters fit, and when the first of them died: parameters as those of the walk, but the last. */
export const countLetters: Statement<{ jobs: number; looked: number; oldest: Date | null }> = {
  text: `
select count(*) filter (where hit)::int jobs, count(*)::int looked, min(died_at) filter (where hit) oldest
from (${letters}) w`,
};

/** Locks those of these letters that nobody else deals with. */
export const lockLetters = sql<{ job_id: string; lane: number }>`
select job_id, lane from errand.dead_letter where job_id = any($1::bigint[]) and discarded_by is null
order by job_id for update skip locked`;

export const forgetLetters = sql<never>`delete from errand.dead_letter where job_id = any($1::bigint[])`;

/** Sets letters aside for an operation: $1 letters, $2 operation. */
export const setAside = sql<{ job_id: string; lane: number }>`
update errand.dead_letter set discarded_by = $2::bigint where job_id = any($1::bigint[]) and discarded_by is null
returning job_id, lane`;

/** Puts back letters an operation has set aside: $1 operation, $2 most. */
export const putBack = sql<{ job_id: string; lane: number }>`
update errand.dead_letter set discarded_by = null where job_id = any(array(
  select job_id from errand.dead_letter where (discarded_by, (job_id + 0)) > ($1::bigint, 0) and discarded_by <= $1
  order by discarded_by, job_id + 0 limit $2::int for update))
returning job_id, lane`;
