// How a job that has not started is changed: it is taken out of where it waits and put back as it is to be, in one
// statement, so it is never in two places and never in none.
// Invariants: what has started is not touched; blocks only lose ids, so it goes into a new block; it keeps its place in the
// line when neither lane nor priority changes; `patches` and the epoch are the version that decides between two changes, and
// between a change and a start that has come and gone.
// Next room: actions/change.ts.
import type { JobState } from '../domain/job.ts';
import type { Db } from './db.ts';
import { sql } from './sql.ts';

/** What a change may say; null = as it is. `due_now` wins over `run_at`. */
export interface JobChange {
  lane: number | null;
  priority: number | null;
  run_at: string | null;
  due_now: boolean;
  max_attempts: number | null;
  tags: readonly string[] | null;
  /** Where the news of its end is to be pushed from, when it has a callback and goes to another queue. */
  callback_lane: number | null;
}

/** Where a changed job stands now; `block` null = it waits for its time. */
export interface Changed {
  lane: number;
  prio: number;
  block: string | null;
  due_in_ms: number;
  state: JobState;
  was_lane: number;
  was_state: JobState;
}

/** Changes a job that waits as it was `seen`: so many starts and changes before; undefined = it is not as expected. */
export function changeJob(
  db: Db,
  id: string,
  seen: { epoch: number; patches: number },
  { lane, priority, run_at, due_now, max_attempts, tags, callback_lane }: JobChange,
): Promise<Changed | undefined> {
  const wishes = [lane, priority, run_at, due_now, max_attempts, tags, callback_lane];
  return db.maybeOne(change, [id, seen.patches, ...wishes, seen.epoch + 1]);
}

export const change = sql<Changed>`
with j as materialized (
  select blk, tags, case when options ? 'unique' then true end keyed from errand.job
  where id = $1::bigint and coalesce(patches, 0) = $2::int
), p as materialized (
  select coalesce((select blk from errand.place where job_id = $1), blk) blk from j
), r as (
  update errand.block b set ids = array_remove(b.ids[b.pos + 1:], $1), pos = 0
  where b.seq = (select blk from p) and $1 = any(b.ids[b.pos + 1:]) and cardinality(b.ids) - b.pos > 1
    and b.epoch = $10::int
  returning b.lane, b.prio, b.epoch, b.attempt, b.timeout_seconds, b.ord, b.at
), l as (
  delete from errand.block b where b.seq = (select blk from p) and b.ids[b.pos + 1:] = array[$1] and b.epoch = $10
  returning b.lane, b.prio, b.epoch, b.attempt, b.timeout_seconds, b.ord, b.at
), w as (
  delete from errand.later where job_id = $1 and epoch = $10 and exists (select from j)
  returning lane, prio, epoch, attempt, timeout_seconds, run_at
), z as (
  delete from errand.blocked where job_id = $1 and epoch = $10 and exists (select from j)
  returning tenant, key, parked, lane, prio, epoch, attempt, timeout_seconds, run_at
), x as (
  select *, case when attempt > 1 then 'retrying' else 'scheduled' end unready from (
    select *, null::timestamptz run_at, 'queued' place from r union all select *, null, 'queued' from l
    union all select lane, prio, epoch, attempt, timeout_seconds, null, null, run_at, 'later' from w
    union all select lane, prio, epoch, attempt, timeout_seconds, null, null, run_at, 'blocked' from z) y
), n as materialized (
  -- A suspect stays one: its line is apart from that of the others.
  select lane was_lane, case place when 'later' then unready else place end was_state, unready,
    coalesce($3::int, lane) lane, (coalesce($4::int, prio % 10) + prio / 10 * 10)::int2 prio, epoch, attempt,
    timeout_seconds, coalesce(at, errand.now()) at,
    case when coalesce($3, lane) = lane and coalesce($4, prio % 10) = prio % 10 then ord end ord,
    case when $6::boolean then errand.now() else coalesce($5::timestamptz, run_at) end run_at, place
  from x
), u as (
  -- What is held is still a job of its own lane.
  update errand.job set lane = coalesce($3, job.lane), priority = n.prio % 10, max_attempts = coalesce($7::int, job.max_attempts),
    run_at = case when $6 or $5 is not null then n.run_at else job.run_at end,
    tags = case when $8::text[] is null then job.tags when $8 = '{}' then null else $8 end, patches = $2 + 1,
    options = case when $9::int is null then job.options else jsonb_set(job.options, '{callback,lane}', to_jsonb($9)) end
  from n where id = $1
), k as materialized (
  -- One with a key that has waited for its time comes back under the lock of its key, as all such do.
  select nextval('errand.block_seq') seq, * from n
  where place <> 'blocked' and (run_at is null or run_at <= errand.now())
    and not (place = 'later' and exists (select from j where keyed))
), b as (
  insert into errand.block (seq, ord, at, lane, prio, epoch, attempt, timeout_seconds, ids)
  select seq, coalesce(ord, seq), at, lane, prio, epoch, attempt, timeout_seconds, array[$1] from k
), q as (
  insert into errand.place (job_id, blk) select $1, seq from k on conflict (job_id) do update set blk = excluded.blk
), v as (
  insert into errand.later (job_id, run_at, lane, timeout_seconds, epoch, prio, attempt, keyed)
  select $1, run_at, lane, timeout_seconds, epoch, prio, attempt, (select keyed from j) from n
  where place <> 'blocked' and not exists (select from k)
), m as (
  insert into errand.blocked (job_id, tenant, key, parked, lane, prio, epoch, attempt, timeout_seconds, run_at)
  select $1, z.tenant, z.key, z.parked, n.lane, n.prio, n.epoch, n.attempt, n.timeout_seconds, n.run_at
  from z join n on n.place = 'blocked'
), g as (
  delete from errand.tag where $8 is not null and tenant = 0 and job_id = $1 and exists (select from n)
    and tag = any(array(select unnest(tags) from j)) and tag <> all($8)
), h as (
  insert into errand.tag (tenant, tag, job_id) select distinct 0, t.tag, $1 from n cross join unnest($8) t(tag)
  on conflict do nothing
)
select n.lane, n.prio, n.was_lane, n.was_state, case when k.seq is not null then 'queued' when n.place = 'blocked' then n.place else n.unready end state,
  coalesce(k.ord, k.seq) block,
  coalesce(extract(epoch from n.run_at - errand.now()) * 1000, 0)::float8 due_in_ms
from n left join k on true`;
