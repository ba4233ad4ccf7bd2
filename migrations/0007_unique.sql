-- Up Migration
-- Uniqueness: who holds a key, and who waits for the holder. A job without a key writes nothing here; one with a key
-- writes these rows in the transaction that stores it, under the lock of its key.

-- Uniq: the holder of a key. The row outlives the holder until the next job takes it over or the sweep finds it free, so
-- that nothing has to be released when a job ends. until: the key stays taken so long, even when the holder has ended.
create table errand.uniq (
  tenant int not null default 0,
  key text not null,
  job_id bigint not null,             -- 0: the key was locked for the first time and nobody holds it yet
  until timestamptz,
  primary key (tenant, key)
) with (fillfactor = 70);

-- Blocked: jobs that wait until the holder of their key lets go of it; what they need to stand in a block or in later.
create table errand.blocked (
  job_id bigint primary key,
  run_at timestamptz,                 -- null: due as soon as it is let go
  tenant int not null default 0,
  lane int not null,
  timeout_seconds int not null,
  epoch int not null default 1,
  prio smallint not null,
  attempt smallint not null default 1,
  parked boolean not null,            -- it fell due while another held its key; else it waits to run after the holder
  key text not null
);
-- Not job_id itself: a plan made while the table is empty would look jobs up by id in it.
create index blocked_key on errand.blocked (tenant, key, (job_id + 0));

alter table errand.uniq set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
  autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 1000000000);
alter table errand.blocked set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
  autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 1000000000);

-- keyed: true for a job with a key, else null. It falls due one by one, under the lock of its key, and no other waits for it.
-- The index leads with the flag, so that only a comparison of both columns can use it, whatever statistics say.
alter table errand.later add column keyed boolean;
create index later_keyed on errand.later (keyed, run_at) where keyed;

-- What is true of jobs, said once: the state is the terminal outcome of the highest epoch; else a row in later; else one in
-- blocked; else a lease of the block it stands in; else it is queued. What a blocked job waits for is told in its options. No join was added:
-- with one more the planner no longer filters by lane before it looks at all of this.
create or replace function errand.job_facts(wanted bigint[])
returns table (
  id bigint, lane int, priority smallint, max_attempts smallint, timeout_seconds int, created_at timestamptz,
  run_at timestamptz, expires_at timestamptz, backoff jsonb, tags text[], options jsonb, patches smallint,
  state text, epoch int, attempt int, started_at timestamptz, finished_at timestamptz, next_at timestamptz,
  worker int, cancel_requested boolean, class errand.failure_class, source errand.failure_source, http_status smallint,
  error text, created_uri text, has_result boolean, progress text, progress_seq int
) language sql stable as $$
  select j.id, j.lane, j.priority, j.max_attempts, j.timeout_seconds, j.created_at, j.run_at, j.expires_at, j.backoff, j.tags,
    case when j.options ? 'unique' then j.options || coalesce((
      select jsonb_build_object('blocked_by', u.job_id::text, 'blocked_reason', case when b.parked then 'parked' else 'rerun' end)
      from errand.blocked b cross join lateral (
        select job_id from errand.uniq where uniq.tenant = b.tenant and uniq.key = b.key offset 0) u
      where b.job_id = i.id), '{}') else j.options end,
    j.patches,
    case when o.status <= 'expired' then o.status::text
         when w.run_at is not null then case when w.attempt > 1 then 'retrying' else 'scheduled' end
         when j.options ? 'unique' and exists (select from errand.blocked b where b.job_id = i.id offset 0) then 'blocked'
         when l.id is not null then 'running'
         else 'queued' end,
    case when o.status <= 'expired' or l.id is null or w.run_at is not null then coalesce(o.epoch, 0) else l.epoch end,
    case when o.status <= 'expired' or l.id is null or w.run_at is not null
         then coalesce(o.attempt - (o.status in ('released', 'snoozed'))::int, 0) else l.attempt end,
    case when o.status <= 'expired' then o.started_at when w.run_at is null then l.started_at end,
    case when o.status <= 'expired' then o.finished_at end,
    w.run_at,
    case when o.status <= 'expired' then o.worker when w.run_at is null then l.owner end,
    (o.status is null or o.status > 'expired') and w.run_at is null and j.id = any(coalesce(l.cancels, '{}')),
    o.class, o.source, o.http_status, o.error, o.created_uri, o.result is not null,
    g.progress, g.progress_seq
  from unnest(wanted) i(id)
  cross join lateral (select * from errand.job where job.id = i.id offset 0) j
  left join lateral (select place.blk from errand.place where place.job_id = i.id offset 0) p on true
  left join lateral (select * from errand.outcome where outcome.job_id = i.id order by outcome.epoch desc limit 1) o on true
  left join lateral (select later.run_at, later.attempt from errand.later where later.job_id = i.id offset 0) w on true
  -- A lease may still name a job that has ended its start and waits.
  left join lateral (select * from errand.lease where lease.blk = coalesce(p.blk, j.blk) and j.blk + coalesce(p.blk, 0) > 0
    and i.id = any(lease.ids)
    and not (j.options ? 'unique' and exists (select from errand.blocked b where b.job_id = i.id offset 0)) limit 1) l on true
  left join lateral (select progress.progress, progress.progress_seq from errand.progress
    where progress.job_id = i.id offset 0) g on true
$$;

-- Down Migration
-- Forward only: a mistake is mended by the next migration.
