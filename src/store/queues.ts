// Queues as operators see and set them: made, locked, changed, deleted, and read with what goes on in them now.
// Invariants: every change raises `version` and ends its transaction with `turnLevers` (levers.ts); a queue that was deleted
// keeps its row, so that no version comes twice.
// Next room: actions/queues.ts, which decides; levers.ts, by which every process knows.
import type { QueueFacts } from '../domain/queue-record.ts';
import { sql } from './sql.ts';

/** Makes the row of a queue, to be locked next: $1 tenant, $2 name. */
export const makeQueue = sql<never>`
insert into errand.queue (tenant, name, version) values ($1, $2, 0) on conflict do nothing`;

/** Takes back a row that was made only to be locked: $1 tenant, $2 name. */
export const unmakeQueue = sql<never>`
delete from errand.queue where tenant = $1 and name = $2 and version = 0`;

/** Locks the row of a queue: $1 tenant, $2 name. */
export const lockQueue = sql<{ name: string }>`
select name from errand.queue where tenant = $1 and name = $2 for update`;

/**
 * Queues by name, in the order of the names: $1 tenant, $2 names. What is no queue comes without `exists`: where nobody has
 * set anything (a row that was only locked has version 0) and there is no lane; or it was deleted and has had no job since.
 */
export const findQueues = sql<QueueFacts>`
with n as materialized (
  select n.name, n.i, array(select id from errand.lane l where l.tenant = $1 and l.queue = n.name) lanes
  from unnest($2::text[]) with ordinality n(name, i)
), r as materialized (
  select n.name, count(*) running
  from errand.lease e join n on e.lane = any(n.lanes) cross join lateral unnest(e.ids) i(id)
  where not exists (select from errand.outcome o where o.job_id = i.id and o.epoch = e.epoch) group by n.name
)
select n.name, coalesce(q.version, 0) version, coalesce(q.settings, '{}') settings, q.created_at, q.changed_at,
  errand.now() now,
  case when q.paused_until > errand.now() or q.paused_until is null then q.paused_at end paused_at, q.paused_until,
  q.pause_reason, q.draining_since, q.drain_deadline, q.drain_reason,
  case when q.deleted_at is null then coalesce(q.version, 0) > 0 or cardinality(n.lanes) > 0
    else exists (
      select from unnest(n.lanes) l(id) cross join lateral (
        select job.id from errand.job where job.lane = l.id order by job.id + 0 desc limit 1) j
      where j.id > q.deleted_through)
    end "exists",
  coalesce(r.running, 0)::int running,
  exists (select from unnest(n.lanes) l(id)
    where exists (select from errand.block b where b.lane = l.id and cardinality(b.ids) > b.pos)
      or exists (select from errand.later w where w.lane = l.id)
      or exists (select from errand.blocked k where k.lane = l.id)) has_waiting,
  coalesce((select jsonb_agg(jsonb_build_object('type', t.type, 'since', t.paused_at, 'until', t.paused_until, 'reason', t.reason)
      order by t.type)
    from errand.type_pause t where t.tenant = $1 and t.queue = n.name
      and (t.paused_until > errand.now() or t.paused_until is null)), '[]') paused_types
from n left join errand.queue q on q.tenant = $1 and q.name = n.name left join r on r.name = n.name
order by n.i`;

/** Names of queues behind a name: $1 tenant, $2 name, $3 most. Lanes are skipped from name to name. */
export const walkQueues = sql<{ name: string }>`
with recursive w(name, n) as (
  select least((select min(l.queue) from errand.lane l where l.tenant = $1 and l.queue > $2::text),
    (select min(q.name) from errand.queue q where q.tenant = $1 and q.name > $2::text)), 1
  union all
  select least((select min(l.queue) from errand.lane l where l.tenant = $1 and l.queue > w.name),
    (select min(q.name) from errand.queue q where q.tenant = $1 and q.name > w.name)), n + 1
  from w where w.name is not null and n < $3::int
)
select name from w where name is not null`;

/** Sets the settings of a queue; one that was deleted is there again: $1 tenant, $2 name, $3 settings. */
export const setQueue = sql<never>`
update errand.queue set settings = $3::jsonb, version = version + 1, changed_at = errand.now(),
  created_at = case when deleted_at is null then created_at else errand.now() end, deleted_at = null, deleted_through = null
where tenant = $1 and name = $2`;

/** Pauses a queue: $1 tenant, $2 name, $3 since, $4 until, $5 reason. */
export const pauseQueue = sql<never>`
update errand.queue set paused_at = $3::timestamptz, paused_until = $4::timestamptz, pause_reason = $5,
  version = version + 1, changed_at = errand.now()
where tenant = $1 and name = $2`;

/** Pauses a type: $1 tenant, $2 queue, $3 type, $4 since, $5 until, $6 reason. */
export const pauseType = sql<never>`
insert into errand.type_pause (tenant, queue, type, paused_at, paused_until, reason)
values ($1, $2, $3, $4::timestamptz, $5::timestamptz, $6)
on conflict (tenant, queue, type) do update
set paused_at = excluded.paused_at, paused_until = excluded.paused_until, reason = excluded.reason`;

/** Ends pause and drain of a queue: $1 tenant, $2 name. */
export const resumeQueue = sql<never>`
update errand.queue set paused_at = null, paused_until = null, pause_reason = null, draining_since = null,
  drain_deadline = null, drain_reason = null, version = version + 1, changed_at = errand.now()
where tenant = $1 and name = $2`;

/** Ends the pauses of types: $1 tenant, $2 queue, $3 types. */
export const resumeTypes = sql<never>`
delete from errand.type_pause where tenant = $1 and queue = $2 and type = any($3::text[])`;

/** Says that something of a queue has changed that is not in its row: $1 tenant, $2 name. */
export const touchQueue = sql<never>`
update errand.queue set version = version + 1, changed_at = errand.now() where tenant = $1 and name = $2`;

/** Drains a queue: $1 tenant, $2 name, $3 since, $4 deadline, $5 reason. */
export const drainQueue = sql<never>`
update errand.queue set draining_since = $3::timestamptz, drain_deadline = $4::timestamptz, drain_reason = $5,
  version = version + 1, changed_at = errand.now()
where tenant = $1 and name = $2`;

/** Operations that have set jobs of a queue aside: $1 tenant, $2 name. */
export const holdersIn = sql<{ operation: string }>`
select distinct split_part(l.route, '.', 2) operation from errand.lane l
where l.tenant = $1 and l.queue = $2 and l.route like ':hold.%' and (
  exists (select from errand.block b where b.lane = l.id and cardinality(b.ids) > b.pos)
  or exists (select from errand.later w where w.lane = l.id)
  or exists (select from errand.blocked k where k.lane = l.id))
order by 1`;

/** Forgets what was set of a queue and remembers up to which job it was one: $1 tenant, $2 name. */
export const forgetQueue = sql<never>`
with t as (
  delete from errand.type_pause where tenant = $1 and queue = $2
)
update errand.queue set settings = '{}', paused_at = null, paused_until = null, pause_reason = null, draining_since = null,
  drain_deadline = null, drain_reason = null, version = version + 1, changed_at = errand.now(), deleted_at = errand.now(),
  deleted_through = coalesce((
    select max(j.id) from errand.lane l cross join lateral (
      select job.id from errand.job where job.lane = l.id order by job.id + 0 desc limit 1) j
    where l.tenant = $1 and l.queue = $2), 0)
where tenant = $1 and name = $2`;
