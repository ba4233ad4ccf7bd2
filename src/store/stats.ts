// What the queue holds, for gauges: read at most every few seconds, from blocks and leases rather than jobs, so it costs
// as much as there are commits waiting, not jobs.
// Next room: telemetry/metrics.ts.
import type { Db } from './db.ts';
import { sql } from './sql.ts';

export interface QueueDepth {
  queue: string;
  type: string;
  queued: number;
  running: number;
  scheduled: number;
  retrying: number;
  oldest_ready_seconds: number;
}

/** Depth by lane and state, and the age of the oldest ready block in s. */
export function queueDepths(db: Db): Promise<QueueDepth[]> {
  return db.many(depths);
}

export const depths = sql<QueueDepth>`
with q as (
  select lane, sum(cardinality(ids) - pos) n, extract(epoch from errand.now() - min(at)) age from errand.block
  where cardinality(ids) > pos group by lane
), r as (
  select l.lane, count(*) n from errand.lease l cross join lateral unnest(l.ids) i(id)
  where not exists (select from errand.outcome o where o.job_id = i.id and o.epoch = l.epoch) group by l.lane
), w as (
  select lane, count(*) filter (where attempt = 1) scheduled, count(*) filter (where attempt > 1) retrying
  from errand.later group by lane
)
select lane.queue, lane.route "type", coalesce(q.n, 0)::int queued, coalesce(r.n, 0)::int running,
  coalesce(w.scheduled, 0)::int scheduled, coalesce(w.retrying, 0)::int retrying,
  coalesce(q.age, 0)::float8 oldest_ready_seconds
from errand.lane left join q on q.lane = lane.id left join r on r.lane = lane.id left join w on w.lane = lane.id`;

/** Whether the database answers and takes writes, and who leads there; `age_ms` is since when, `left_ms` what is left of the term. */
export const ping = sql<{
  read_only: boolean;
  term: string | null;
  holder: string | null;
  age_ms: number | null;
  left_ms: number | null;
}>`
select pg_is_in_recovery() or current_setting('transaction_read_only')::bool read_only, l.term, l.holder,
  extract(epoch from clock_timestamp() - l.since)::float8 * 1000 age_ms,
  extract(epoch from l.until - clock_timestamp())::float8 * 1000 left_ms
from (values ('dispatcher')) v(room) left join errand.leader l using (room)`;

export const durability = sql<{ fsync: string; synchronous_commit: string }>`
select current_setting('fsync') fsync, current_setting('synchronous_commit') synchronous_commit`;
