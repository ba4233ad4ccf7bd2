// Dead letters as operations meet them: found in the order of death, taken by one operation at a time, set aside and put back.
// Invariants: a letter that another is dealing with is passed over, never waited for; what is asked of one cause or of a few
// lanes is not lost among the letters of others, because a bound counts only what the index of the question has.
// Next room: actions/redrive-many.ts, actions/discard.ts.
import { type Statement, sql } from './sql.ts';

/** A letter that fits, or, with `job_id` null, the last that was looked at. */
export interface WalkedLetter {
  job_id: string | null;
  lane: number;
  key: [died_at: string, job_id: string];
  looked: number;
}

const columns = 'job_id, lane, class, source, http_status, fingerprint, died_at';

/**
 * Where letters are read. Parameters of all: $1 moment and $2 id behind which to begin, $3 died not after, $4 rows to look at,
 * $5 lanes or null, $6 fingerprint, $7 error class, $8 source, $9 HTTP status, $10 tag, $11 died before, or null.
 */
const places = {
  all: `
    select ${columns} from errand.dead_letter
    where discarded_by is null and (died_at, (job_id + 0)) > ($1::timestamptz, $2::bigint) and died_at <= $3::timestamptz
    order by died_at, (job_id + 0) limit $4::int`,
  of_cause: `
    select ${columns} from errand.dead_letter
    where discarded_by is null and (fingerprint, died_at, (job_id + 0)) > ($6::text, $1::timestamptz, $2::bigint)
      and (fingerprint, died_at) <= ($6, $3::timestamptz)
    order by fingerprint, died_at, (job_id + 0) limit $4::int`,
  of_lanes: `
    select d.* from unnest($5::int[]) l(lane) cross join lateral (
      select ${columns} from errand.dead_letter
      where discarded_by is null and (lane, died_at, (job_id + 0)) > (l.lane, $1::timestamptz, $2::bigint)
        and (lane, died_at) <= (l.lane, $3::timestamptz)
      order by lane, died_at, (job_id + 0) limit $4::int) d
    order by d.died_at, d.job_id limit $4`,
} as const;

export type LetterPlace = keyof typeof places;

const letters = (place: LetterPlace) => `
  select d.*, row_number() over () looked,
    ($5::int[] is null or d.lane = any($5)) and ($6::text is null or d.fingerprint = $6)
      and ($7::text is null or d.class::text = $7) and ($8::text is null or d.source::text = $8)
      and ($9::int is null or d.http_status = $9) and ($10::text is null or $10 = any(j.tags))
      and ($11::timestamptz is null or d.died_at < $11) hit
  from (${places[place]}) d
  cross join lateral (select tags from errand.job where job.id = d.job_id offset 0) j`;

const walk = (place: LetterPlace): Statement<WalkedLetter> => ({
  text: `
select case when w.hit then w.job_id end job_id, w.lane, w.looked::int,
  array[to_char(w.died_at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), w.job_id::text] key
from (${letters(place)}) w
where w.hit or w.looked = $4
limit $12::int`,
});

const count = (place: LetterPlace): Statement<{ jobs: number; looked: number; oldest: Date | null }> => ({
  text: `
select count(*) filter (where hit)::int jobs, count(*)::int looked, min(died_at) filter (where hit) oldest
from (${letters(place)}) w`,
});

/** Letters by death: $12 rows to answer. */
export const walkLetters = walk('all');
export const walkLettersOfCause = walk('of_cause');
export const walkLettersOfLanes = walk('of_lanes');

/** How many letters fit, and when the first of them died. */
export const countLetters = count('all');
export const countLettersOfCause = count('of_cause');
export const countLettersOfLanes = count('of_lanes');

/** Locks those of these letters that nobody else deals with. */
export const lockLetters = sql<{ job_id: string; lane: number }>`
select job_id, lane from errand.dead_letter where job_id = any($1::bigint[]) and discarded_by is null
order by job_id for update skip locked`;

/** Sets letters aside for an operation, but for those that another deals with: $1 letters, $2 operation. */
export const setAside = sql<{ job_id: string; lane: number }>`
update errand.dead_letter set discarded_by = $2::bigint where job_id = any(array(
  select job_id from errand.dead_letter where job_id = any($1::bigint[]) and discarded_by is null
  order by job_id for update skip locked))
returning job_id, lane`;

/** Puts back letters an operation has set aside: $1 operation, $2 most. */
export const putBack = sql<{ job_id: string; lane: number }>`
update errand.dead_letter set discarded_by = null where job_id = any(array(
  select job_id from errand.dead_letter where (discarded_by, (job_id + 0)) > ($1::bigint, 0) and discarded_by <= $1
  order by discarded_by, job_id + 0 limit $2::int for update))
returning job_id, lane`;
