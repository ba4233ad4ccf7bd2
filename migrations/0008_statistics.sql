-- Up Migration
-- Statistics without counting rows: what processes count in memory is written once a second, whatever the number of jobs.
-- Invariant: the depth of a lane is its row in depth plus the changes in its rows of tally; a row of tally is written with
-- absolute figures by one process only, so a write that is repeated changes nothing.

-- Tally: what one process saw in one lane in a stretch of ten seconds. The states are by how much the depth changed.
-- A row is written ten times at most and never again, so no row grows old versions under a snapshot that is held.
create table errand.tally (
  lane int not null,
  slot timestamptz not null,          -- when the stretch began
  process int not null,               -- the worker's number of the process
  arrived int not null default 0,
  started int not null default 0,
  succeeded int not null default 0,
  died int not null default 0,
  cancelled int not null default 0,
  expired int not null default 0,
  retried int not null default 0,
  lost int not null default 0,
  released int not null default 0,
  queued int not null default 0,
  scheduled int not null default 0,
  retrying int not null default 0,
  running int not null default 0,
  blocked int not null default 0,
  dead int not null default 0,
  wait int[] not null default '{}',   -- histograms: a bucket, how often, the next bucket, how often, …
  run int[] not null default '{}',
  failed int[] not null default '{}',
  primary key (lane, slot, process)
) with (fillfactor = 50);
create index tally_slot on errand.tally (slot);
alter table errand.tally set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
  autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 1000000000);

-- Tally_minute: the same of all processes by the minute, kept for as long as the setting says; made of tallies by the leader.
create table errand.tally_minute (like errand.tally including defaults);
alter table errand.tally_minute drop column process;
alter table errand.tally_minute add primary key (lane, slot);
create index tally_minute_slot on errand.tally_minute (slot);

-- Depth: how many jobs each lane holds by state, dead letters included, and how many have come, started and ended in all,
-- as far as tallies were folded into it.
create table errand.depth (
  lane int primary key,
  queued bigint not null default 0,
  scheduled bigint not null default 0,
  retrying bigint not null default 0,
  running bigint not null default 0,
  blocked bigint not null default 0,
  dead bigint not null default 0,
  arrived bigint not null default 0,
  started bigint not null default 0,
  ended bigint not null default 0
) with (fillfactor = 50);
alter table errand.depth set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
  autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 1000000000);

-- What stands there already; what other processes do meanwhile is mended by the recount.
insert into errand.depth (lane, queued, scheduled, retrying, running)
select l.id,
  coalesce((select sum(cardinality(ids) - pos) from errand.block where lane = l.id), 0),
  (select count(*) from errand.later where lane = l.id and attempt = 1),
  (select count(*) from errand.later where lane = l.id and attempt > 1),
  (select count(*) from errand.lease cross join lateral unnest(ids) i(id) where lane = l.id and not exists (
    select from errand.outcome o where o.job_id = i.id and o.epoch = lease.epoch))
from errand.lane l;

-- Down Migration
-- Forward only: a mistake is mended by the next migration.
