-- Up Migration
-- What operators set of queues: settings, pauses, drains, and pauses of single types. A row stands only where somebody has
-- set something; every process has all of them in memory (actions/levers.ts), so no job costs a look at them.
-- Invariant: whatever changes one of these tables raises errand.lever_turn in the same transaction.

create table errand.queue (
  tenant int not null default 0,
  name text not null,
  version int not null default 1,     -- grows with every change that a caller makes, also over a deletion
  settings jsonb not null default '{}',
  paused_at timestamptz,              -- null: nobody paused it, or it was resumed
  paused_until timestamptz,           -- the pause ends by itself then; null: it does not
  pause_reason text,
  draining_since timestamptz,         -- null: it takes jobs
  drain_deadline timestamptz,
  drain_reason text,
  created_at timestamptz not null default errand.now(),
  changed_at timestamptz not null default errand.now(),
  deleted_at timestamptz,             -- it is there again with the next job, or when it is defined again
  deleted_through bigint,             -- the last job it had then
  primary key (tenant, name)
) with (fillfactor = 50);

create table errand.type_pause (
  tenant int not null default 0,
  queue text not null,
  type text not null,
  paused_at timestamptz not null default errand.now(),
  paused_until timestamptz,
  reason text,
  primary key (tenant, queue, type)
);

-- Lever turn: one row that says whether anything of the above has changed. Changes line up at it, so turns are in their order.
create table errand.lever_turn (
  one boolean primary key default true check (one),
  turn bigint not null default 0
) with (fillfactor = 10);
insert into errand.lever_turn default values;

-- Down Migration
-- Forward only: a mistake is mended by the next migration.
