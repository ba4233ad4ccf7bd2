// Who takes work: written by whoever hears of it, read by people and gauges. docs/storage.md is the design note.
// Invariant: nothing decides by these rows; one statement writes all that a process has heard since the last.
// Next room: actions/roster.ts.
import { sql } from './sql.ts';

/** One that takes work, as it is written. */
export interface Enrolled {
  worker: number;
  kind: 'process' | 'pull';
  version: string | null;
  slots: number;
  pushes: boolean;
  queues: readonly string[];
  types: readonly string[];
}

/** One that takes work, as it was last heard of, with what it runs. */
export interface Enlisted extends Enrolled {
  name: string;
  since: Date;
  seen_at: Date;
  silent_ms: number;
  running: number;
  /** Some of them, those that have run longest. */
  jobs: { id: string; started_at: string; until: string }[];
}

/** Writes what was heard: $1 the rows as a JSON array. Sorted, so that two processes wait for each other. */
export const enroll = sql<never>`
insert into errand.roster (worker, kind, version, slots, pushes, queues, types)
select worker, kind, version, slots, pushes, queues, types
from jsonb_to_recordset($1::jsonb) r(worker int, kind text, version text, slots int, pushes boolean, queues text[],
  types text[]) order by worker
on conflict (worker) do update set seen_at = clock_timestamp(), kind = excluded.kind, version = excluded.version,
  slots = excluded.slots, pushes = excluded.pushes, queues = excluded.queues, types = excluded.types,
  since = case when roster.seen_at < clock_timestamp() - interval '60 s' then clock_timestamp() else roster.since end`;

/** Takes off who goes: $1 workers. */
export const dismiss = sql<never>`delete from errand.roster where worker = any($1::int[])`;

/** Takes off who was not heard of for an hour and holds nothing. */
export const forgetSilent = sql<{ worker: number }>`
delete from errand.roster r where seen_at < clock_timestamp() - interval '1 h'
  and not exists (select from errand.lease where owner = r.worker) returning worker`;

/** Who was heard of in the last $4 s or holds a lease, by worker: $1 tenant, $2 behind, $3 most. */
export const listRoster = sql<Enlisted>`
with h as materialized (
  select l.owner, i.id, l.started_at, l.until from errand.lease l cross join lateral unnest(l.ids) i(id)
  where not exists (select from errand.outcome o where o.job_id = i.id and o.epoch = l.epoch offset 0)
), r as (
  select r.* from errand.roster r where r.tenant = $1 and r.worker > $2::int
    and (r.seen_at > clock_timestamp() - $4::int * interval '1 s' or r.worker in (select owner from h))
  order by r.worker limit $3::int
)
select r.worker, w.name, r.kind, r.version, r.slots, r.pushes, r.queues, r.types, r.since, r.seen_at,
  (extract(epoch from clock_timestamp() - r.seen_at) * 1000)::float8 silent_ms,
  (select count(*) from h where h.owner = r.worker)::int running,
  coalesce((select json_agg(json_build_object('id', j.id::text, 'started_at', j.started_at, 'until', j.until)
      order by j.started_at, j.id)
    from (select * from h where h.owner = r.worker order by started_at, id limit 20) j), '[]') jobs
from r join errand.worker w on w.id = r.worker order by r.worker`;

/** Who was heard of in the last $1 s: what each takes. */
export const onDuty = sql<Pick<Enrolled, 'worker' | 'kind' | 'slots' | 'pushes' | 'queues' | 'types'>>`
select worker, kind, slots, pushes, queues, types from errand.roster
where seen_at > clock_timestamp() - $1::int * interval '1 s'`;

/** How many jobs are ready in these lanes, each of which has some: as they are counted, for who is nobody's can be many. */
export const readyIn = sql<{ lane: number; queued: number }>`
select l.lane, greatest(1, coalesce(d.queued, 0) + coalesce(t.queued, 0))::float8 queued
from unnest($1::int[]) l(lane)
left join lateral (select queued from errand.depth where lane = l.lane offset 0) d on true
left join lateral (select sum(queued) queued from errand.tally where lane = l.lane) t on true order by l.lane`;

/** How many jobs these owners hold. */
export const heldBy = sql<{ running: number }>`
select count(*)::int running from errand.lease l cross join lateral unnest(l.ids) i(id)
where l.owner = any($1::int[])
  and not exists (select from errand.outcome o where o.job_id = i.id and o.epoch = l.epoch offset 0)`;
