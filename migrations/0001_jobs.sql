-- Up Migration
-- The storage of docs/storage.md: jobs and outcomes are only ever inserted, what is ready is run-length encoded in
-- blocks, a claim writes one lease row per block. Churn scales with commits, not with jobs.
-- Every key that callers choose carries the tenant; every time that decides comes from errand.now().

create schema errand;

-- The one clock. A test replaces it to move time for delays, backoff, leases and expiry.
create function errand.now() returns timestamptz language sql stable parallel safe as 'select now()';

create type errand.outcome_status as enum
  ('succeeded', 'dead', 'cancelled', 'expired',  -- terminal: these four sort first, so `status <= 'expired'` is the test
   'retry', 'lost', 'released', 'snoozed');
create type errand.failure_class as enum ('retryable', 'permanent', 'poison', 'rate_limited', 'timeout', 'lost');
create type errand.failure_source as enum ('target', 'worker', 'handler', 'errand');

-- Lane: the line jobs stand in, so that a type nobody serves blocks no other. The route is the job's type.
create table errand.lane (
  id int generated always as identity primary key,
  tenant int not null default 0,
  queue text not null,
  route text not null,
  unique (tenant, queue, route)
);

-- Worker: whoever may hold a lease: a process with handlers, or a pull worker by the name it gives.
create table errand.worker (
  id int generated always as identity primary key,
  tenant int not null default 0,
  name text not null,
  created_at timestamptz not null default errand.now(),
  unique (tenant, name)
);

create sequence errand.job_id_seq;
create sequence errand.block_seq;

create table errand.job (
  id bigint not null,
  blk bigint not null,                -- the block it was first put into (never updated: see place); 0 = into later
  created_at timestamptz not null default errand.now(),
  lane int not null,
  timeout_seconds int not null,
  priority smallint not null,
  max_attempts smallint not null,
  payload text not null,              -- the bytes as they were sent
  run_at timestamptz,
  expires_at timestamptz,
  backoff jsonb,
  tags text[],
  primary key (id)
) partition by range (id);

-- Outcome: every start of a job ends in exactly one row. Its insert is the only arbiter between completion, recovery,
-- release and cancel. A row without started_at closes an epoch that never started.
create table errand.outcome (
  job_id bigint not null,
  started_at timestamptz,
  finished_at timestamptz not null default errand.now(),
  epoch int not null,
  lane int not null,
  worker int,
  status errand.outcome_status not null,
  attempt smallint not null,          -- starts that count, this one included
  prio smallint not null,
  http_status smallint,
  class errand.failure_class,
  source errand.failure_source,
  next_at timestamptz,
  error text,
  created_uri text,
  result text,
  primary key (job_id, epoch)
) partition by range (job_id);
create index outcome_unhappy on errand.outcome (lane, job_id) where status between 'dead' and 'expired';

-- Block: ready jobs, run-length encoded. Blocks only ever lose ids; what is put back goes into a new block.
-- prio is the priority 0 to 9, or 10 + priority for a suspect (a job that lost a worker), which stands in a line of its
-- own so that a claim for healthy jobs never touches it.
create table errand.block (
  seq bigint primary key default nextval('errand.block_seq'),
  ord bigint not null,                -- sort key inside (lane, prio): seq, unless fair share gives another
  at timestamptz not null default errand.now(),
  lane int not null,
  timeout_seconds int not null,
  epoch int not null default 1,
  pos int not null default 0,         -- ids[1..pos] are taken
  prio smallint not null,
  attempt smallint not null default 1,
  ids bigint[] not null
) with (fillfactor = 70);
create index block_head on errand.block (lane, prio, ord);

-- Lease: one caller's claim on one block. Heartbeats move until, never deadline.
create table errand.lease (
  id bigint generated always as identity primary key,
  blk bigint not null,
  until timestamptz not null,
  started_at timestamptz not null default errand.now(),
  deadline timestamptz not null,      -- started_at + timeout of the jobs in it
  owner int not null,
  lane int not null,
  epoch int not null,
  prio smallint not null,
  attempt smallint not null,
  ids bigint[] not null,
  cancels bigint[]                    -- jobs of this lease that were asked to stop
);
create index lease_blk on errand.lease (blk);

-- Later: jobs that wait for a moment, delayed or between two attempts.
create table errand.later (
  job_id bigint primary key,
  run_at timestamptz not null,
  lane int not null,
  timeout_seconds int not null,
  epoch int not null,
  prio smallint not null,
  attempt smallint not null
);
create index later_due on errand.later (run_at);

-- Place: where a job stands that is no longer in the block it was first put into.
create table errand.place (
  job_id bigint primary key,
  blk bigint not null
) with (fillfactor = 80);

-- Expiring: jobs that must not start after a moment.
create table errand.expiring (
  expires_at timestamptz not null,
  job_id bigint not null,
  primary key (expires_at, job_id)
);

create table errand.idem (
  tenant int not null,
  route text not null,
  key text not null,
  job_id bigint not null,
  print bytea not null,
  created_at timestamptz not null default errand.now(),
  primary key (tenant, route, key)
);

create table errand.secret (
  name text primary key,
  value bytea not null
);

alter table errand.block set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
  autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 1000000000);
alter table errand.lease set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
  autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 1000000000);
alter table errand.later set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
  autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 1000000000);
alter table errand.place set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
  autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 1000000000);

-- One partition of jobs and the outcomes that belong to it; ids from lo up to, not including, hi.
create function errand.add_partition(lo bigint, hi bigint) returns void language plpgsql as $$
begin
  execute format('create table if not exists errand.job_%s partition of errand.job for values from (%s) to (%s)', lo, lo, hi);
  execute format('create table if not exists errand.outcome_%s partition of errand.outcome for values from (%s) to (%s)', lo, lo, hi);
end $$;
select errand.add_partition(0, 10000000);
select errand.add_partition(10000000, 20000000);

-- What is true of jobs, said once: the state is the terminal outcome of the highest epoch; else a row in later; else a
-- lease of the block it stands in; else it is queued.
create function errand.job_facts(wanted bigint[])
returns table (
  id bigint, lane int, priority smallint, max_attempts smallint, timeout_seconds int, created_at timestamptz,
  run_at timestamptz, expires_at timestamptz, backoff jsonb, tags text[],
  state text, epoch int, attempt int, started_at timestamptz, finished_at timestamptz, next_at timestamptz,
  worker int, cancel_requested boolean, class errand.failure_class, source errand.failure_source, http_status smallint,
  error text, created_uri text, has_result boolean
) language sql stable as $$
  select j.id, j.lane, j.priority, j.max_attempts, j.timeout_seconds, j.created_at, j.run_at, j.expires_at, j.backoff, j.tags,
    case when o.status <= 'expired' then o.status::text
         when w.run_at is not null then case when w.attempt > 1 then 'retrying' else 'scheduled' end
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
    o.class, o.source, o.http_status, o.error, o.created_uri, o.result is not null
  from unnest(wanted) i(id)
  cross join lateral (select * from errand.job where job.id = i.id offset 0) j
  left join lateral (select place.blk from errand.place where place.job_id = i.id offset 0) p on true
  left join lateral (select * from errand.outcome where outcome.job_id = i.id order by outcome.epoch desc limit 1) o on true
  left join lateral (select later.run_at, later.attempt from errand.later where later.job_id = i.id offset 0) w on true
  left join lateral (select * from errand.lease where lease.blk = coalesce(p.blk, j.blk) and j.blk + coalesce(p.blk, 0) > 0
    and i.id = any(lease.ids) limit 1) l on true
$$;

-- Down Migration
-- Forward only: a mistake is mended by the next migration.
