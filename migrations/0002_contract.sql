-- Up Migration
-- What the whole HTTP contract needs: options that few jobs have, progress, tags, the jobs that follow a job, and lists.
-- Everything here is written only when it is sent: a job without options, tags or progress costs what it cost before,
-- plus the entry in job_lane, without which the list of a queue would read every job there is.

-- options: what few jobs have, null for all others: type (where the lane is shared by several), target, callback,
-- content_type, payload_base64, traceparent, tracestate, retry_of, callback_of.
-- patches: how often the job was changed by PATCH, null for never.
alter table errand.job add column options jsonb, add column patches smallint;
-- Not (lane, id): a plan made while a partition is empty would look jobs up by id in it, reading all of it once it is full.
create index job_lane on errand.job (lane, (id + 0));

-- Lists of what ended unhappily, newest first, of all lanes and of one: the state leads, so a rare one is found at once.
drop index errand.outcome_unhappy;
create index outcome_unhappy on errand.outcome (status, job_id) where status between 'dead' and 'expired';
create index outcome_unhappy_lane on errand.outcome (status, lane, job_id) where status between 'dead' and 'expired';

-- Lists of what waits, scheduled and retrying apart, by the moment it waits for.
create index later_lane on errand.later (lane, (attempt > 1), run_at, (job_id + 0));

-- Tag: jobs by tag, newest last.
create table errand.tag (
  tenant int not null default 0,
  tag text not null,
  job_id bigint not null,
  primary key (tenant, tag, job_id)
);

-- Progress: the latest progress and checkpoint of a job, with the start that wrote them. seq counts writes; progress_seq
-- and checkpoint_seq are its value at the last write of each, so that both have a place in the order of events.
create table errand.progress (
  job_id bigint primary key,
  epoch int not null,
  seq int not null default 1,
  progress_seq int,
  checkpoint_seq int,
  progress_at timestamptz,
  checkpoint_at timestamptz,
  progress text,
  checkpoint text
) with (fillfactor = 60);
alter table errand.progress set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
  autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 1000000000);

-- Successor: the job that was made because of another, one of each kind at most, so that a repeat finds the same one.
create type errand.succession as enum ('retry', 'callback');
create table errand.successor (
  job_id bigint not null,
  kind errand.succession not null,
  next_id bigint not null,
  primary key (job_id, kind)
);

-- The first job made at a moment or later: ids grow with time, so a search by halves finds it in some thirty probes.
-- Jobs of transactions that overlap may be out of order by as much as a statement may last; the caller allows for it.
create function errand.first_job_since(moment timestamptz) returns bigint language plpgsql stable as $$
declare
  lo bigint := 0;
  hi bigint := (select coalesce(max(id), 0) + 1 from errand.job);
  mid bigint;
  made timestamptz;
begin
  while lo < hi loop
    mid := (lo + hi) / 2;
    select created_at into made from errand.job where id >= mid order by id limit 1;
    if made < moment then lo := mid + 1; else hi := mid; end if;
  end loop;
  return lo;
end $$;

drop function errand.job_facts(bigint[]);
-- What is true of jobs, said once: the state is the terminal outcome of the highest epoch; else a row in later; else a
-- lease of the block it stands in; else it is queued.
create function errand.job_facts(wanted bigint[])
returns table (
  id bigint, lane int, priority smallint, max_attempts smallint, timeout_seconds int, created_at timestamptz,
  run_at timestamptz, expires_at timestamptz, backoff jsonb, tags text[], options jsonb, patches smallint,
  state text, epoch int, attempt int, started_at timestamptz, finished_at timestamptz, next_at timestamptz,
  worker int, cancel_requested boolean, class errand.failure_class, source errand.failure_source, http_status smallint,
  error text, created_uri text, has_result boolean, progress text, progress_seq int
) language sql stable as $$
  select j.id, j.lane, j.priority, j.max_attempts, j.timeout_seconds, j.created_at, j.run_at, j.expires_at, j.backoff, j.tags,
    j.options, j.patches,
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
    o.class, o.source, o.http_status, o.error, o.created_uri, o.result is not null,
    g.progress, g.progress_seq
  from unnest(wanted) i(id)
  cross join lateral (select * from errand.job where job.id = i.id offset 0) j
  left join lateral (select place.blk from errand.place where place.job_id = i.id offset 0) p on true
  left join lateral (select * from errand.outcome where outcome.job_id = i.id order by outcome.epoch desc limit 1) o on true
  left join lateral (select later.run_at, later.attempt from errand.later where later.job_id = i.id offset 0) w on true
  left join lateral (select * from errand.lease where lease.blk = coalesce(p.blk, j.blk) and j.blk + coalesce(p.blk, 0) > 0
    and i.id = any(lease.ids) limit 1) l on true
  left join lateral (select progress.progress, progress.progress_seq from errand.progress
    where progress.job_id = i.id offset 0) g on true
$$;

-- Down Migration
-- Forward only: a mistake is mended by the next migration.
