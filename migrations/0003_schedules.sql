-- Up Migration
-- Schedules and their ledger. A slot is the moment a schedule names; the ledger holds one row for each slot that was due.
-- Invariant: the row of a slot, its job and the advance of its schedule commit together, under the term of the leader, so
-- no slot vanishes and none fires twice whatever happens to processes and clocks.

-- Leader: who may do what must happen once, such as firing schedules. term is the fencing number: it grows with every
-- change of office and is tested by every transaction that acts in it. Measured by the real clock, never by a test's.
-- Unique with the room, so that a renewal (which leaves the key alone) does not wait for a transaction that holds the
-- term by FOR KEY SHARE, and a take-over does.
create table errand.leader (
  room text primary key,
  term bigint not null,
  holder text not null,
  length interval not null,           -- of a renewal: more than is left of a sound term
  since timestamptz not null,
  until timestamptz not null,
  unique (room, term)
) with (fillfactor = 50);

create table errand.schedule (
  id int generated always as identity primary key,
  tenant int not null default 0,
  name text not null,
  version int not null default 1,     -- grows with every change that a caller makes
  turn int not null default 0,        -- grows with every look of the dispatcher that wrote something
  definition jsonb not null,          -- as the caller gave it, defaults filled in, without the payload
  payload text not null,              -- of its jobs: the bytes as they were sent
  paused_at timestamptz,
  resumed_at timestamptz,             -- null while it is paused
  pause_reason text,
  created_at timestamptz not null default errand.now(),
  changed_at timestamptz not null default errand.now(),
  watermark timestamptz not null,     -- every slot of this definition up to here is in the ledger, in owed, or held
  owed timestamptz[] not null default '{}',  -- slots of an earlier definition that were due when it was changed
  held timestamptz,                   -- the slot that waits for the end of the job before it (overlap queue_one)
  next_slot timestamptz,              -- null: there is none any more
  next_due timestamptz,               -- when to look at it: the slot with its jitter, or sooner when something is owed or held
  failing_since timestamptz,          -- it could not be fired since then
  open_jobs bigint[] not null default '{}',  -- jobs it made that were not known to have ended
  stopping bigint[] not null default '{}',   -- those of them that are still to be asked to stop
  unique (tenant, name)
) with (fillfactor = 50);
create index schedule_due on errand.schedule (next_due) where next_due is not null;
create index schedule_failing on errand.schedule (next_slot) where failing_since is not null;
alter table errand.schedule set (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 2000,
  autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 1000000000);

create type errand.slot_outcome as enum ('on_time', 'late', 'caught_up', 'skipped', 'manual');
create type errand.slot_reason as enum ('misfire', 'overlap', 'paused');

-- Slot: the ledger. through and slots say that the row stands for many that were skipped together, see docs/storage.md.
create table errand.slot (
  schedule_id int not null,
  slots int default 1,                -- how many; null: more than were counted
  slot timestamptz not null,
  due_at timestamptz not null,
  decided_at timestamptz not null default errand.now(),
  through timestamptz,
  job_id bigint,
  term bigint,                        -- null: a caller fired it by hand
  outcome errand.slot_outcome not null,
  reason errand.slot_reason,
  primary key (schedule_id, slot)
);
-- For what is old enough to be forgotten. Not BRIN: where vacuum gives old pages to new rows, its ranges span all of time.
create index slot_decided on errand.slot (decided_at);

-- Down Migration
-- Forward only: a mistake is mended by the next migration.
