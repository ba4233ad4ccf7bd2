// The truth about depths: what blocks, leases, waiting jobs and dead letters really hold, beside what is counted.
// Invariants: truth and counter are read in one snapshot; a reading is bounded in lanes and in rows of each, but for what runs
// and what is blocked, which is read whole: there is as much of it as there are slots, and keys that somebody waits for.
// Next room: actions/recount.ts; tallies.ts, whose `addDepths` mends.
import { sql } from './sql.ts';

/** A lane as it is and as it is counted, by state; `null`: too many rows to be counted at once. */
export interface Recounted {
  lane: number;
  queue: string;
  route: string;
  queued: number | null;
  scheduled: number | null;
  retrying: number | null;
  running: number | null;
  blocked: number | null;
  dead: number | null;
  counted_queued: number;
  counted_scheduled: number;
  counted_retrying: number;
  counted_running: number;
  counted_blocked: number;
  counted_dead: number;
  /** How much came and went in the last stretches of time: what is under way is in the truth sooner than in the counter. */
  moving_queued: number;
  moving_scheduled: number;
  moving_retrying: number;
  moving_running: number;
  moving_blocked: number;
  moving_dead: number;
}

/** Forgets the depths of lanes that are no more, such as those in which an operation held jobs: $1 behind lane, $2 through lane. */
export const forgetDepths = sql<never>`
delete from errand.depth d where d.lane > $1::int and d.lane <= $2::int
  and not exists (select from errand.lane l where l.id = d.lane offset 0)`;

/** Recounts the lanes $1, and the next $3 behind lane $2; $4 rows of each state at most. */
export const recountLanes = sql<Recounted>`
with l as materialized (
  select id lane, queue, route from errand.lane where id = any($1::int[])
  union (select id, queue, route from errand.lane where id > $2::int order by id limit $3::int)
), r as materialized (
  select lease.lane, count(*) n from errand.lease cross join lateral unnest(lease.ids) i(id)
  where lease.lane = any(array(select lane from l))
    and not exists (select from errand.outcome o where o.job_id = i.id and o.epoch = lease.epoch offset 0)
  group by lease.lane
), k as materialized (
  select lane, count(*) n from errand.blocked where lane = any(array(select lane from l)) group by lane
)
select l.lane, l.queue, l.route, q.n::float8 queued, s.n::float8 scheduled, y.n::float8 retrying,
  coalesce(r.n, 0)::float8 running, coalesce(k.n, 0)::float8 blocked, x.n::float8 dead,
  (coalesce(d.queued, 0) + coalesce(t.queued, 0))::float8 counted_queued,
  (coalesce(d.scheduled, 0) + coalesce(t.scheduled, 0))::float8 counted_scheduled,
  (coalesce(d.retrying, 0) + coalesce(t.retrying, 0))::float8 counted_retrying,
  (coalesce(d.running, 0) + coalesce(t.running, 0))::float8 counted_running,
  (coalesce(d.blocked, 0) + coalesce(t.blocked, 0))::float8 counted_blocked,
  (coalesce(d.dead, 0) + coalesce(t.dead, 0))::float8 counted_dead,
  coalesce(m.queued, 0)::float8 moving_queued, coalesce(m.scheduled, 0)::float8 moving_scheduled,
  coalesce(m.retrying, 0)::float8 moving_retrying, coalesce(m.running, 0)::float8 moving_running,
  coalesce(m.blocked, 0)::float8 moving_blocked, coalesce(m.dead, 0)::float8 moving_dead
from l
left join r on r.lane = l.lane
left join k on k.lane = l.lane
left join errand.depth d on d.lane = l.lane
left join lateral (
  select sum(queued) queued, sum(scheduled) scheduled, sum(retrying) retrying, sum(running) running, sum(blocked) blocked, sum(dead) dead
  from errand.tally where lane = l.lane) t on true
left join lateral (
  select sum(arrived + started + lost + released + abs(queued)) queued, sum(arrived + abs(scheduled)) scheduled,
    sum(retried + abs(retrying)) retrying, sum(started + abs(running)) running, sum(arrived + abs(blocked)) blocked,
    sum(died + abs(dead)) dead
  from errand.tally where lane = l.lane and slot > errand.now() - interval '20 s') m on true
cross join lateral (
  select case when count(*) <= $4::int then coalesce(sum(n), 0) end n from (
    select cardinality(ids) - pos n from errand.block where lane = l.lane order by prio, ord limit $4 + 1) z) q
cross join lateral (
  select case when count(*) <= $4 then count(*) end n from (
    select from errand.later where lane = l.lane and (attempt > 1) = false limit $4 + 1) z) s
cross join lateral (
  select case when count(*) <= $4 then count(*) end n from (
    select from errand.later where lane = l.lane and (attempt > 1) = true limit $4 + 1) z) y
cross join lateral (
  select case when count(*) <= $4 then count(*) end n from (
    select from errand.dead_letter where lane = l.lane and discarded_by is null limit $4 + 1) z) x
order by l.lane`;
