// What is kept of counts: tallies as processes write them, minutes and depths as the leader folds them, and what is read of
// both. Nothing here counts rows of jobs.
// Invariants: a row of tally is added to its minute and to the depth of its lane in the transaction that deletes it, so every
// snapshot has each count once; the cost of a reading follows lanes, processes and the two minutes before a fold.
// Next room: actions/tally.ts writes; actions/statistics.ts reads; recount.ts for the truth they are held against.
import type { Sparse } from '../domain/histogram.ts';
import type { Counts, Depth, TallyRow } from '../domain/tally.ts';
import { hot, sql } from './sql.ts';

export const databaseTime = sql<{ now_ms: number }>`
select (extract(epoch from errand.now()) * 1000)::float8 now_ms`;

/** Writes rows of one process with all they have seen: $1 as JSON. */
export const writeTallies = hot<{ now_ms: number }>('write_tallies')`
with w as (
  insert into errand.tally select * from json_populate_recordset(null::errand.tally, $1::json) order by lane, slot
  on conflict (lane, slot, process) do update set (arrived, started, succeeded, died, cancelled, expired, retried, lost,
    released, queued, scheduled, retrying, running, blocked, dead, wait, run, failed) = (excluded.arrived, excluded.started,
    excluded.succeeded, excluded.died, excluded.cancelled, excluded.expired, excluded.retried, excluded.lost,
    excluded.released, excluded.queued, excluded.scheduled, excluded.retrying, excluded.running, excluded.blocked,
    excluded.dead, excluded.wait, excluded.run, excluded.failed)
)
select (extract(epoch from errand.now()) * 1000)::float8 now_ms`;

/** A row of tally or of a minute. */
export type StoredTally = Omit<TallyRow, 'slot'> & { slot: Date };

/** Takes tallies that nobody writes any more, oldest first: $1 how old, in s, $2 most. */
export const takeTallies = sql<StoredTally>`
delete from errand.tally t using (
  select lane, slot, process from errand.tally where slot < errand.now() - $1::int * interval '1 s'
  order by slot limit $2 for update skip locked) o
where t.lane = o.lane and t.slot = o.slot and t.process = o.process
returning t.*`;

/** Takes the minutes of these lanes, to be written again with more in them. */
export const takeMinutes = sql<StoredTally>`
delete from errand.tally_minute m using unnest($1::int[], $2::timestamptz[]) o(lane, slot)
where m.lane = o.lane and m.slot = o.slot returning m.*`;

export const insertMinutes = sql<never>`
insert into errand.tally_minute select * from json_populate_recordset(null::errand.tally_minute, $1::json)`;

/** Adds changes to depths: $1 rows of depth as JSON. */
export const addDepths = sql<never>`
insert into errand.depth select * from json_populate_recordset(null::errand.depth, $1::json) order by lane
on conflict (lane) do update set queued = depth.queued + excluded.queued, scheduled = depth.scheduled + excluded.scheduled,
  retrying = depth.retrying + excluded.retrying, running = depth.running + excluded.running,
  blocked = depth.blocked + excluded.blocked, dead = depth.dead + excluded.dead, arrived = depth.arrived + excluded.arrived,
  started = depth.started + excluded.started, ended = depth.ended + excluded.ended`;

/** Forgets minutes older than $1 hours, $2 at most. */
export const forgetMinutes = sql<{ forgotten: number }>`
with d as (
  delete from errand.tally_minute m using (
    select lane, slot from errand.tally_minute where slot < errand.now() - $1::int * interval '1 h' order by slot limit $2) o
  where m.lane = o.lane and m.slot = o.slot returning 1
)
select count(*)::int forgotten from d`;

/** What a lane holds, and how many jobs have come, started and ended in all. */
export interface LaneDepth extends Depth {
  lane: number;
  queue: string;
  route: string;
  arrived: number;
  started: number;
  ended: number;
  /** Since when the oldest job that is ready has been, in ms; null: none is. */
  oldest_age_ms: number | null;
}

/** Depths of the lanes of queues $1. The oldest is read off the first block of each head, by the index. */
export const readDepths = hot<LaneDepth>('read_depths')`
select l.id lane, l.queue, l.route, s.*, (extract(epoch from errand.now() - o.at) * 1000)::float8 oldest_age_ms
from unnest($1::text[]) w(queue)
cross join lateral (select id, queue, route from errand.lane where tenant = 0 and lane.queue = w.queue offset 0) l
left join lateral (select * from errand.depth where lane = l.id offset 0) d on true
left join lateral (
  select sum(queued) queued, sum(scheduled) scheduled, sum(retrying) retrying, sum(running) running, sum(blocked) blocked,
    sum(dead) dead, sum(arrived) arrived, sum(started) started, sum(succeeded + died + cancelled + expired) ended
  from errand.tally where lane = l.id) t on true
cross join lateral (
  -- A process that died may have told of less than it did: until that is mended nothing is below nothing.
  select greatest(0, coalesce(d.queued, 0) + coalesce(t.queued, 0))::float8 queued,
    greatest(0, coalesce(d.scheduled, 0) + coalesce(t.scheduled, 0))::float8 scheduled,
    greatest(0, coalesce(d.retrying, 0) + coalesce(t.retrying, 0))::float8 retrying,
    greatest(0, coalesce(d.running, 0) + coalesce(t.running, 0))::float8 running,
    greatest(0, coalesce(d.blocked, 0) + coalesce(t.blocked, 0))::float8 blocked,
    greatest(0, coalesce(d.dead, 0) + coalesce(t.dead, 0))::float8 dead,
    (coalesce(d.arrived, 0) + coalesce(t.arrived, 0))::float8 arrived,
    (coalesce(d.started, 0) + coalesce(t.started, 0))::float8 started,
    (coalesce(d.ended, 0) + coalesce(t.ended, 0))::float8 ended) s
left join lateral (
  with recursive h as (
    (select prio, at from errand.block where lane = l.id order by prio, ord limit 1)
    union all
    select n.prio, n.at from h cross join lateral (
      select prio, at from errand.block where lane = l.id and prio > h.prio order by prio, ord limit 1) n
  )
  select min(at) at from h) o on true`;

/** What happened in a lane in one stretch of time. */
export interface Stretch extends Counts {
  queue: string;
  route: string;
  /** When it began, and for how long that has been, in s. */
  slot: Date;
  age: number;
  queued: number;
  wait: Sparse;
  run: Sparse;
  failed: Sparse;
}

/** What happened in queues $1 within the last $2 s. */
export const readRecent = hot<Stretch>('read_recent')`
select l.queue, l.route, extract(epoch from errand.now() - t.slot)::float8 age, t.*
from unnest($1::text[]) w(queue)
cross join lateral (select id, queue, route from errand.lane where tenant = 0 and lane.queue = w.queue offset 0) l
cross join lateral (
  select slot, arrived, started, succeeded, died, cancelled, expired, retried, lost, released, queued, wait, run, failed
  from errand.tally where lane = l.id and slot > errand.now() - $2::int * interval '1 s'
  union all
  select slot, arrived, started, succeeded, died, cancelled, expired, retried, lost, released, queued, wait, run, failed
  from errand.tally_minute where lane = l.id and slot > errand.now() - $2::int * interval '1 s') t`;

/** What happened in queue $1 from $2 to before $3, a type's routes $4 or all where null, $5 rows at most. */
export const readSpan = sql<Omit<Stretch, 'age'>>`
select l.queue, l.route, t.*
from errand.lane l cross join lateral (
  select slot, arrived, started, succeeded, died, cancelled, expired, retried, lost, released, queued, wait, run, failed
  from errand.tally where lane = l.id and slot >= $2::timestamptz and slot < $3::timestamptz
  union all
  select slot, arrived, started, succeeded, died, cancelled, expired, retried, lost, released, queued, wait, run, failed
  from errand.tally_minute where lane = l.id and slot >= $2 and slot < $3) t
where l.tenant = 0 and l.queue = $1 and ($4::text[] is null or l.route = any($4)) limit $5::int`;
