// The list of dead letters: walked by the time of death, grouped by cause, and left by what is discarded. That a letter is
// written with its death is settleAny's care, that it leaves with its repeat that of repeats.ts.
// Invariants: a walk reads one index and a bounded number of rows, whatever is asked for; no plan depends on statistics
// (docs/storage.md, Lists).
// Next room: actions/dead-letters.ts, which chooses the walk.
import type { ErrorClass, ErrorSource } from '../domain/outcome.ts';
import type { Db } from './db.ts';
import { type Statement, sql } from './sql.ts';

/** A letter that fits, or, with `job_id` null, the last row that was looked at. */
export interface WalkedLetter {
  job_id: string | null;
  key: string[];
  looked: number;
  lane: number;
  died_at: Date;
  class: ErrorClass | null;
  source: ErrorSource | null;
  http_status: number | null;
  fingerprint: string | null;
  error: string | null;
  attempt: number;
  max_attempts: number;
  epoch: number;
  created_at: Date;
  tags: string[] | null;
}

/** Letters of one cause; where there is no group at all, one row with `job_id` null. */
export interface LetterGroup {
  fingerprint: string | null;
  class: ErrorClass | null;
  source: ErrorSource | null;
  http_status: number | null;
  count: number;
  lanes: number[];
  first_died_at: Date;
  last_died_at: Date;
  /** The latest of them. */
  job_id: string | null;
  error: string | null;
  /** Letters that were looked at for all groups together. */
  looked: number;
}

/**
 * The walks. Parameters of all: $1 died before and $2 the id behind which to begin, $3 not before, $4 rows to look at,
 * $5 fingerprint, $6 lanes or null, $7 class, $8 source, $9 HTTP status, $10 tag.
 */
const walks = {
  all: `
select * from errand.dead_letter
where discarded_by is null and (died_at, job_id + 0) < ($1::timestamptz, $2::bigint) and died_at >= $3::timestamptz
order by died_at desc, job_id + 0 desc limit $4::int`,
  of_cause: `
select * from errand.dead_letter
where discarded_by is null and (fingerprint, died_at, job_id + 0) < ($5::text, $1::timestamptz, $2::bigint)
  and (fingerprint, died_at) >= ($5, $3::timestamptz)
order by fingerprint desc, died_at desc, job_id + 0 desc limit $4::int`,
  // Only the $4 lanes with the latest letters can have a part in the answer.
  of_lanes: `
select d.*
from (
  select l.lane from unnest($6::int[]) l(lane) cross join lateral (
    select died_at, job_id from errand.dead_letter
    where discarded_by is null and (lane, died_at, job_id + 0) < (l.lane, $1::timestamptz, $2::bigint)
      and (lane, died_at) >= (l.lane, $3::timestamptz)
    order by lane desc, died_at desc, job_id + 0 desc limit 1) t
  order by t.died_at desc, t.job_id desc limit $4::int) h
cross join lateral (
  select * from errand.dead_letter
  where discarded_by is null and (lane, died_at, job_id + 0) < (h.lane, $1, $2) and (lane, died_at) >= (h.lane, $3)
  order by lane desc, died_at desc, job_id + 0 desc limit $4) d
order by d.died_at desc, d.job_id desc limit $4`,
} as const;

const fits = `
  ($5::text is null or w.fingerprint = $5) and ($6::int[] is null or w.lane = any($6))
  and ($7::text is null or w.class::text = $7) and ($8::text is null or w.source::text = $8)
  and ($9::int is null or w.http_status = $9)
  and ($10::text is null or exists (
    select from errand.tag where tenant = 0 and tag = $10 and tag.job_id = w.job_id offset 0))`;

/** A page of a walk: $11 rows to answer. Ends with the last row it looked at, where the bound cut it. */
function page(name: string, walk: string): Statement<WalkedLetter> {
  return {
    name,
    text: `
select case when w.hit then w.job_id end job_id, w.looked::int,
  array[to_char(w.died_at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), w.job_id::text] key,
  w.lane, w.died_at, w.class, w.source, w.http_status, w.fingerprint, o.error, o.attempt, o.epoch, j.max_attempts,
  j.created_at, j.tags
from (select w.*, row_number() over () looked, ${fits} hit from (${walk}) w) w
left join lateral (select error, attempt, epoch from errand.outcome where job_id = w.job_id and w.hit
  order by epoch desc limit 1) o on true
left join lateral (select max_attempts, created_at, tags from errand.job where id = w.job_id and w.hit offset 0) j on true
where w.hit or w.looked = $4
limit $11::int`,
  };
}

/** Groups of a walk, the largest first: $11 groups to answer. */
function groups(name: string, walk: string): Statement<LetterGroup> {
  return {
    name,
    text: `
with w as materialized (select w.*, ${fits} hit from (${walk}) w),
g as (
  select fingerprint, class, source, http_status, count(*)::int count, array_agg(distinct lane) lanes,
    min(died_at) first_died_at, max(died_at) last_died_at, (array_agg(job_id order by died_at desc, job_id desc))[1] job_id
  from w where hit
  -- What has no fingerprint may have died of anything: it is one cause no further than its lane.
  group by fingerprint, class, source, http_status, case when fingerprint is null then lane end
  order by count(*) desc, max(died_at) desc limit $11::int
)
select g.*, c.looked, o.error from (select count(*)::int looked from w) c left join g on true
left join lateral (select error from errand.outcome where outcome.job_id = g.job_id order by epoch desc limit 1) o on true
order by g.count desc, g.last_died_at desc`,
  };
}

export const letters = page('letters', walks.all);
export const lettersOfCause = page('letters_of_cause', walks.of_cause);
export const lettersOfLanes = page('letters_of_lanes', walks.of_lanes);
export const groupsOfAll = groups('letter_groups', walks.all);
export const groupsOfCause = groups('letter_groups_of_cause', walks.of_cause);
export const groupsOfLanes = groups('letter_groups_of_lanes', walks.of_lanes);

/** What is decided about the letter of a dead job: nothing yet, or by whom it was discarded, or which job repeats it. */
export const findDecision = sql<{ listed: boolean; discarded_by: string | null; redriven_as: string | null }>`
select d.job_id is not null and d.discarded_by is null listed, d.discarded_by, s.next_id redriven_as
from (select $1::bigint id) i
left join errand.dead_letter d on d.job_id = i.id
left join errand.successor s on s.job_id = i.id and s.kind = 'retry'`;

/** Takes letters out of the list: $1 ids, $2 who: 0 a call, else an operation. Answers those that were in it. */
export function discardLetters(
  db: Db,
  ids: readonly string[],
  by: string,
): Promise<{ job_id: string; lane: number }[]> {
  return db.many(discard, [ids, by]);
}

export const discard = sql<{ job_id: string; lane: number }>`
update errand.dead_letter set discarded_by = $2::bigint where job_id = any(array(
  select job_id from errand.dead_letter where job_id = any($1::bigint[]) and discarded_by is null order by job_id for update))
  and discarded_by is null
returning job_id, lane`;
