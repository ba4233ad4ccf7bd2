// Where a start of a pushed job stands, and how it gets a lease of its own. Pushes are leased in common rows like any other
// jobs; only what a target takes over goes its own way, and is taken out of the common row then.
// Invariants: an id stands in one lease row; a row that is taken apart keeps its last id, so none is ever empty; the new
// row ends when the old one would have, so whoever dies in between loses the job to the rescue and to nobody else.
// Next room: actions/hand-over.ts.
import { hot, sql } from './sql.ts';

/**
 * Gives starts leases of their own: $1 jobs, $2 epochs. A start that has ended or was lost is not in the answer; nor is one
 * that somebody else moved in the meantime, so whoever misses one asks again.
 */
export const takeApart = hot<{ job_id: string; lease: string }>('take_apart')`
with x as materialized (
  select distinct x.job_id, l.id lease from unnest($1::bigint[], $2::int[]) x(job_id, epoch)
  cross join lateral (select blk from errand.job where id = x.job_id offset 0) j
  left join lateral (select blk from errand.place where job_id = x.job_id offset 0) p on true
  cross join lateral (select id from errand.lease
    where blk = coalesce(p.blk, j.blk) and epoch = x.epoch and x.job_id = any(ids) limit 1) l
  where not exists (select from errand.outcome o where o.job_id = x.job_id and o.epoch = x.epoch offset 0)
), h as materialized (
  select * from errand.lease where id = any(array(select lease from x)) order by id for update
), s as materialized (
  -- Under the lock: who has left the row meanwhile is not taken out of it again.
  select h.*, x.job_id, row_number() over (partition by h.id order by x.job_id) < cardinality(h.ids) moves
  from x join h on h.id = x.lease where x.job_id = any(h.ids)
), n as (
  insert into errand.lease (blk, until, started_at, deadline, owner, lane, epoch, prio, attempt, ids, cancels)
  select blk, until, started_at, deadline, owner, lane, epoch, prio, attempt, array[job_id],
    case when job_id = any(cancels) then array[job_id] end
  from s where moves returning ids[1] job_id, id
), u as (
  update errand.lease set ids = array(
    select i.id from unnest(ids) with ordinality i(id, at)
    where not i.id = any(array(select job_id from s where moves)) order by i.at)
  where id = any(array(select id from s where moves))
)
select job_id, id lease from n union all select job_id, id from s where not moves`;

/** Deletes those of these leases whose starts have all ended: $1. */
export const deleteEnded = sql<never>`
delete from errand.lease l where id = any($1::bigint[]) and not exists (
  select from unnest(l.ids) i(id) where not exists (
    select from errand.outcome o where o.job_id = i.id and o.epoch = l.epoch offset 0))`;

/** Leases that hold starts now: $1 jobs, $2 epochs. A start that has ended stands in none. */
export const findStanding = sql<{
  job_id: string;
  epoch: number;
  lease: string;
  /** Whether the row holds other jobs too: then nobody has taken this one over. */
  shared: boolean;
  until: Date;
  cancel_requested: boolean;
}>`
select distinct x.job_id, x.epoch, l.id lease, cardinality(l.ids) > 1 shared, l.until,
  coalesce(x.job_id = any(l.cancels), false) cancel_requested
from unnest($1::bigint[], $2::int[]) x(job_id, epoch)
cross join lateral (select blk from errand.job where id = x.job_id offset 0) j
left join lateral (select blk from errand.place where job_id = x.job_id offset 0) p on true
cross join lateral (select id, ids, until, cancels from errand.lease
  where blk = coalesce(p.blk, j.blk) and epoch = x.epoch and x.job_id = any(ids) limit 1) l
where not exists (select from errand.outcome o where o.job_id = x.job_id and o.epoch = x.epoch offset 0)`;
