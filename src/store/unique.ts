// Keys of which one job at a time is the holder, and the jobs that wait for a holder. Whoever decides anything about a key
// locks its row in one statement and looks in the next, because one statement cannot lock and look.
// Invariants: holders change under the lock of their key only; a blocked job always has a key with a row; what falls due is
// let in job by job, so that a conflict parks that job and no other.
// Next room: actions/unique.ts, which decides about submits; actions/keys.ts, the chores.
import type { Holder, Waiters } from '../domain/unique.ts';
import { sql } from './sql.ts';

/** Locks keys, in their order, and waits for whoever has them; a key without a row gets one: $1 tenant, $2 keys. */
export const lockKeys = sql<never>`
insert into errand.uniq (tenant, key, job_id) select distinct $1::int, k, 0 from unnest($2::text[]) k order by k
on conflict (tenant, key) do update set job_id = uniq.job_id where false`;

/** Of these keys, those that somebody else has; of the others, those that have a row are locked: $1 tenant, $2 keys. */
export const findBusyKeys = sql<{ key: string }>`
with f as materialized (
  select key from errand.uniq where tenant = $1::int and key = any($2::text[]) order by key for update skip locked
)
select key from errand.uniq where tenant = $1 and key = any($2) and key <> all(array(select key from f))`;

/** Makes the rows that are missing, so that the next statement can lock them. */
export const makeKeys = sql<never>`
insert into errand.uniq (tenant, key, job_id) select distinct $1::int, k, 0 from unnest($2::text[]) k order by k
on conflict do nothing`;

/** Locks those of the keys that nobody else has. */
export const lockFreeKeys = sql<{ key: string }>`
select key from errand.uniq where tenant = $1::int and key = any($2::text[]) order by key for update skip locked`;

/** A key, its holder, and who waits for it. */
export type Held = Holder & Waiters & { key: string };

/** Who holds these keys: $1 tenant, $2 keys. Run it after the lock, or only to see whether a lock is worth it. */
export const findHolders = sql<Held>`
select u.key, u.job_id, f.state, coalesce(u.until > errand.now(), false) in_window,
  array(select jsonb_array_elements_text(f.options -> 'unique' -> 'while')) holding,
  f.state in ('scheduled', 'queued', 'retrying') and exists (
    select from errand.lane l where l.route like ':hold.%' and l.id = coalesce(
      (select b.lane from errand.block b where b.seq = coalesce(
        (select blk from errand.place where job_id = u.job_id), (select blk from errand.job where id = u.job_id)) offset 0),
      (select lane from errand.later where job_id = u.job_id offset 0)) offset 0) set_aside,
  (select b.job_id from errand.blocked b where b.tenant = u.tenant and b.key = u.key order by b.job_id + 0 limit 1) first_waiting,
  (select b.job_id from errand.blocked b where b.tenant = u.tenant and b.key = u.key and not b.parked
   order by b.job_id + 0 desc limit 1) rerun
from unnest($2::text[]) k(key)
cross join lateral (select * from errand.uniq where tenant = $1::int and uniq.key = k.key offset 0) u
left join lateral errand.job_facts(case when u.job_id > 0 then array[u.job_id] end) f on true`;

/** Makes jobs the holders of their keys: $1 tenant, $2 keys, $3 jobs. Their keys are locked. */
export const setHolders = sql<never>`
update errand.uniq u set job_id = x.job_id, until = (
  select created_at + (options -> 'unique' ->> 'window_seconds')::int * interval '1 s' from errand.job where id = x.job_id)
from unnest($2::text[], $3::bigint[]) x(key, job_id) where u.tenant = $1::int and u.key = x.key`;

/** Puts new jobs, each alone in its block, where others stood in the line: $1 jobs, $2 their places, $3 since when. */
export const takePlaces = sql<never>`
update errand.block b set ord = x.ord, at = x.at
from unnest($1::bigint[], $2::bigint[], $3::timestamptz[]) x(id, ord, at)
cross join lateral (select blk from errand.job where id = x.id offset 0) j where b.seq = j.blk`;

/** Ids for jobs that are named before they are made: $1 how many. */
export const reserveIds = sql<{
  id: string;
}>`select nextval('errand.job_id_seq') id from generate_series(1, $1::int)`;

/** Ends blocked jobs that were superseded: $1 jobs, $2 the one that took the place of each. */
export const supersede = sql<never>`
with m as (
  delete from errand.blocked where job_id = any($1::bigint[]) returning job_id, lane, prio, epoch, attempt
)
insert into errand.outcome (job_id, lane, prio, epoch, attempt, status, source, error)
select job_id, lane, prio, epoch, attempt - 1, 'cancelled', 'errand',
  'superseded by job ' || ($2::bigint[])[array_position($1, job_id)] from m`;

/** Lets idempotency keys name jobs that are there already: one row for each that did not name another. */
export const nameJobs = sql<{ job_id: string }>`
insert into errand.idem (tenant, route, key, job_id, print)
select tenant, route, key, job_id, decode(print, 'hex')
from unnest($1::int[], $2::text[], $3::text[], $4::bigint[], $5::text[]) u(tenant, route, key, job_id, print)
order by tenant, route, key on conflict do nothing returning job_id`;

/** Jobs with a key that are due, in their order: $1 most. */
export const findDueKeyed = sql<{ job_id: string; key: string }>`
select w.job_id, j.key from (
  select job_id, run_at from errand.later where keyed and (keyed, run_at) <= (true, errand.now())
  order by keyed, run_at limit $1::int) w
cross join lateral (select options -> 'unique' ->> 'key' as key from errand.job where id = w.job_id offset 0) j
order by w.run_at, w.job_id`;

/** A job that was let in, or parked; `block` null: it does not stand in a block. */
export interface LetIn {
  job_id: string;
  key: string;
  lane: number;
  prio: number;
  block: string | null;
  parked: boolean;
  /** Where it was, if it was not blocked; where it is, if it stands in no block. */
  unready: 'scheduled' | 'retrying';
}

/** A job that waited for a holder and goes on. */
export type LetGo = LetIn & { due_in_ms: number };

/** Lets due jobs in, or parks them: $1 jobs, $2 their keys, $3 whether each is parked, $4 tenant. */
export const letInDue = sql<LetIn>`
with x as materialized (
  select * from unnest($1::bigint[], $2::text[], $3::boolean[]) x(job_id, key, parks)
), m as materialized (
  delete from errand.later where job_id = any($1) and run_at <= errand.now() returning *
), y as materialized (
  select m.*, x.key, x.parks, case when not x.parks then nextval('errand.block_seq') end seq from m join x using (job_id)
), b as (
  insert into errand.block (seq, ord, lane, prio, epoch, attempt, timeout_seconds, ids)
  select seq, seq, lane, prio, epoch, attempt, timeout_seconds, array[job_id] from y where not parks
), p as (
  insert into errand.place (job_id, blk) select job_id, seq from y where not parks
  on conflict (job_id) do update set blk = excluded.blk
), k as (
  insert into errand.blocked (job_id, tenant, key, parked, lane, prio, epoch, attempt, timeout_seconds)
  select job_id, $4::int, key, true, lane, prio, epoch, attempt, timeout_seconds from y where parks
)
select job_id, key, lane, prio, seq block, parks parked, case when attempt > 1 then 'retrying' else 'scheduled' end unready
from y`;

/** Lets blocked jobs go on: $1 jobs. One that is not due yet goes on waiting for its time. */
export const letGo = sql<LetGo>`
with m as materialized (
  delete from errand.blocked where job_id = any($1::bigint[]) returning *
), y as materialized (
  select *, case when run_at is null or run_at <= errand.now() then nextval('errand.block_seq') end seq from m
), b as (
  insert into errand.block (seq, ord, lane, prio, epoch, attempt, timeout_seconds, ids)
  select seq, seq, lane, prio, epoch, attempt, timeout_seconds, array[job_id] from y where seq is not null
), p as (
  insert into errand.place (job_id, blk) select job_id, seq from y where seq is not null
  on conflict (job_id) do update set blk = excluded.blk
), w as (
  insert into errand.later (job_id, run_at, lane, timeout_seconds, epoch, prio, attempt, keyed)
  select job_id, run_at, lane, timeout_seconds, epoch, prio, attempt, true from y where seq is null
)
select job_id, key, lane, prio, seq block, false parked, case when attempt > 1 then 'retrying' else 'scheduled' end unready,
  coalesce(extract(epoch from run_at - errand.now()) * 1000, 0)::float8 due_in_ms from y`;

/** Keys for which jobs wait, in their order: $1 tenant, $2 behind which key, $3 most. A skip scan of the index. */
export const listAwaitedKeys = sql<{ key: string }>`
with recursive r as (
  (select tenant, key from errand.blocked where (tenant, key) > ($1::int, $2::text) order by tenant, key limit 1)
  union all
  select n.tenant, n.key from r cross join lateral (
    select tenant, key from errand.blocked where (tenant, key) > (r.tenant, r.key) order by tenant, key limit 1) n
)
select key from r limit $3::int`;

/**
 * Forgets keys that nobody holds: looks at $3 rows behind the key $2 of tenant $1, answers the last it looked at and how
 * many it forgot. An end is for ever, so what its snapshot says of a holder is still true under the lock.
 */
export const sweepKeys = sql<{ looked: number; forgotten: number; last: string | null }>`
with c as materialized (
  select tenant, key, job_id, until from errand.uniq where (tenant, key) > ($1::int, $2::text) order by tenant, key
  limit $3::int for update skip locked
), d as (
  delete from errand.uniq u using c where u.tenant = c.tenant and u.key = c.key and u.job_id = c.job_id
    and (c.until is null or c.until <= errand.now())
    and not exists (select from errand.blocked b where b.tenant = c.tenant and b.key = c.key offset 0)
    and (exists (select from errand.outcome where outcome.job_id = c.job_id and status <= 'expired' offset 0)
      or not exists (select from errand.job where id = c.job_id offset 0))
  returning 1
)
select (select count(*) from c)::int looked, (select count(*) from d)::int forgotten, (select max(key) from c) as last`;
