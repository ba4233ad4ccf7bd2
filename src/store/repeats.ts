// Makes jobs again that ended without success: a retry of one, a redrive of a dead letter or of ten thousand.
// Invariants: the successor row decides, so a job is repeated once however often and by whom it is asked for; the repeat has
// every option of its job; its letter leaves the list in the same statement.
// Next room: actions/redrive.ts and actions/change.ts, which ask.
import type { Db } from './db.ts';
import { numbers, sql } from './sql.ts';

/** A job to repeat; lanes: where the repeat, and the news of its end, are to stand; null = where its job did. */
export interface RepeatAsk {
  job_id: string;
  lane: number | null;
  callback_lane: number | null;
}

/** What is to be different from the job that is repeated; null = nothing. */
export interface RepeatWish {
  run_at: string | null;
  max_attempts: number | null;
}

/** A repeat that was made; `ready` = it may start. */
export interface Repeated {
  job_id: string;
  id: string;
  lane: number;
  prio: number;
  /** The lane of the letter that left the list; null = there was none in it. */
  letter_lane: number | null;
  ready: boolean;
  due_in_ms: number;
}

/** Which jobs may be repeated: any that ended without success, or dead ones whose letter was not discarded. */
export type Repeatable = 'unhappy' | 'undecided';

/** Repeats jobs; those without a row were repeated before, or may not be: findSuccessors tells. */
export function repeatJobs(
  db: Db,
  asks: readonly RepeatAsk[],
  which: Repeatable,
  { run_at, max_attempts }: RepeatWish = { run_at: null, max_attempts: null },
): Promise<Repeated[]> {
  return db.many(repeat, [
    numbers(asks.map((ask) => ask.job_id)),
    numbers(asks.map((ask) => ask.lane ?? 'null')),
    numbers(asks.map((ask) => ask.callback_lane ?? 'null')),
    which === 'unhappy' ? ['dead', 'cancelled', 'expired'] : ['dead'],
    which === 'unhappy',
    run_at,
    max_attempts,
  ]);
}

export const repeat = sql<Repeated>`
with l as materialized (
  -- Locked by id, as whoever discards locks them.
  select job_id, discarded_by from errand.dead_letter where job_id = any($1::bigint[]) order by job_id for update
), o as materialized (
  select i.job_id, i.lane, i.callback_lane from unnest($1, $2::int[], $3::int[]) i(job_id, lane, callback_lane)
  cross join lateral (select state from errand.job_facts(array[i.job_id]) where state = any($4::text[]) offset 0) f
  where $5::boolean or not exists (select from l where l.job_id = i.job_id and l.discarded_by is not null)
), s as (
  insert into errand.successor (job_id, kind, next_id)
  select job_id, 'retry', nextval('errand.job_id_seq') from (select distinct job_id from o order by job_id) z
  on conflict do nothing returning job_id, next_id
), x as materialized (
  select s.job_id, s.next_id, coalesce(o.lane, j.lane) lane, o.callback_lane, j.priority, j.timeout_seconds,
    coalesce($7::int2, j.max_attempts) max_attempts, j.payload, j.backoff, j.tags, j.options,
    case when j.expires_at > greatest($6::timestamptz, errand.now()) then j.expires_at end expires_at,
    -- One with a key comes in under the lock of that key, as whatever falls due.
    coalesce($6 > errand.now(), false) or coalesce(j.options ? 'unique', false) waits,
    case when j.options ? 'unique' then true end keyed,
    dense_rank() over (order by coalesce(o.lane, j.lane), j.priority, j.timeout_seconds) g
  from s
  cross join lateral (select * from o where o.job_id = s.job_id limit 1) o
  cross join lateral (select * from errand.job where job.id = s.job_id offset 0) j
), k as materialized (
  select nextval('errand.block_seq') seq, y.* from (
    select g, lane, priority, timeout_seconds, array_agg(next_id order by next_id) ids from x where not waits
    group by g, lane, priority, timeout_seconds) y
), a as materialized (
  select array_agg(k.seq order by g.g) seq from generate_series(1, (select max(g) from x)) g(g) left join k on k.g = g.g
), j as (
  insert into errand.job (id, blk, lane, timeout_seconds, priority, max_attempts, payload, run_at, expires_at, backoff, tags,
    options)
  select next_id, case when waits then 0 else (select seq from a)[g] end, lane, timeout_seconds, priority, max_attempts,
    payload, $6, expires_at, backoff, tags,
    case when callback_lane is null then coalesce(options, '{}')
      else jsonb_set(options, '{callback,lane}', to_jsonb(callback_lane)) end || jsonb_build_object('retry_of', job_id::text)
  from x
), b as (
  insert into errand.block (seq, ord, lane, prio, timeout_seconds, ids)
  select seq, seq, lane, priority, timeout_seconds, ids from k
), w as (
  insert into errand.later (job_id, run_at, lane, timeout_seconds, epoch, prio, attempt, keyed)
  select next_id, coalesce($6, errand.now()), lane, timeout_seconds, 1, priority, 1, keyed from x where waits
), e as (
  insert into errand.expiring (expires_at, job_id) select expires_at, next_id from x where expires_at is not null
), t as (
  insert into errand.tag (tenant, tag, job_id) select distinct 0, t.tag, next_id from x cross join lateral unnest(tags) t(tag)
), d as (
  delete from errand.dead_letter where job_id = any(array(select job_id from x))
  returning job_id, lane, discarded_by
)
select x.job_id, x.next_id id, x.lane, x.priority prio, not x.waits ready,
  (select d.lane from d where d.job_id = x.job_id and d.discarded_by is null) letter_lane,
  coalesce(greatest(extract(epoch from $6 - errand.now()) * 1000, 0), 0)::float8 due_in_ms
from x`;

/** The jobs that repeat these: $1 ids. */
export const findSuccessors = sql<{ job_id: string; id: string }>`
select job_id, next_id id from errand.successor where job_id = any($1::bigint[]) and kind = 'retry'`;

/** What decides about a repeat before it is asked for: where a job stands, and whether somebody is told of its end. */
export const findRepeatable = sql<{ job_id: string; lane: number; callback: boolean }>`
select i.job_id, j.lane, coalesce(j.options ? 'callback', false) callback from unnest($1::bigint[]) i(job_id)
cross join lateral (select lane, options from errand.job where job.id = i.job_id offset 0) j`;
