// Where one job stands, for people who ask why: its line, its lease, its moment, and what holds it, in one look.
// Invariant: the work is bounded: no more blocks before it are counted than a page could tell of.
// Next room: actions/why.ts; domain/why.ts, which makes reasons of it.
import { sql } from './sql.ts';

/** A job's place; members are null where it does not stand there. */
export interface Place {
  now: Date;
  /** The lane it belongs to. */
  lane: number;
  /** The route of the lane its block stands in: not its own where an operation holds it. */
  route: string | null;
  prio: number | null;
  ahead: number;
  /** Ready jobs of its lane that are more urgent, and not so much younger that it goes before them. */
  urgent: number;
  /** Whether there may be more of either than was counted. */
  is_bound: boolean;
  due: Date | null;
  owner: number | null;
  started_at: Date | null;
  until: Date | null;
  deadline: Date | null;
}

/** $1 job, $2 blocks that are counted at most. */
export const findPlace = sql<Place>`
with j as materialized (
  select j.id, j.lane, coalesce(p.blk, j.blk) blk from errand.job j left join errand.place p on p.job_id = j.id where j.id = $1::bigint
), b as materialized (
  select b.* from j cross join lateral (select * from errand.block where seq = j.blk offset 0) b
  where j.id = any(b.ids[b.pos + 1:])
), f as materialized (
  select o.ids, o.pos from b cross join lateral (
    select ids, pos from errand.block where lane = b.lane and prio = b.prio and ord < b.ord order by ord desc limit $2::int) o
), u as materialized (
  select o.*, o.at + o.prio * interval '30 s' < b.at + b.prio * interval '30 s' is_first from b cross join lateral (
    select ids, pos, prio, at from errand.block where lane = b.lane and prio < b.prio and b.prio < 10 order by prio, ord limit $2) o
), w as (
  select run_at, lane from errand.later where job_id = $1
), l as materialized (
  select l.* from j cross join lateral (select * from errand.lease where blk = j.blk offset 0) l
  where j.blk > 0 and j.id = any(l.ids) limit 1
)
select errand.now() now, j.lane, (select route from errand.lane where id = coalesce((select lane from b), (select lane from w))) route,
  (select prio from b) prio,
  (coalesce((select sum(cardinality(ids) - pos) from f), 0)
    + coalesce((select array_position(ids[pos + 1:], $1) - 1 from b), 0))::int ahead,
  (select coalesce(sum(cardinality(ids) - pos) filter (where is_first), 0) from u)::int urgent,
  (select count(*) from f) = $2 or (select count(*) from u) = $2 is_bound, (select run_at from w) due, (select owner from l) owner,
  (select started_at from l) started_at, (select until from l) until, (select deadline from l) deadline
from j`;
