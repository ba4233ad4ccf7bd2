-- Up Migration
-- Roster: who takes work, as some process last heard of it: a process of handlers or pushes of itself, a pull worker by its
-- calls. A note for people and gauges: nothing decides by it, and a row may be missing or late.
-- Measured by the real clock, as leadership is. Written once in a while by each process, all its rows in one statement.
create table errand.roster (
  worker int primary key,               -- errand.worker
  tenant int not null default 0,
  since timestamptz not null default clock_timestamp(),
  seen_at timestamptz not null default clock_timestamp(),
  kind text not null,                   -- process or pull
  version text,
  slots int not null,                   -- most jobs it takes at once; of a pull worker: its limit
  pushes boolean not null,              -- whether it takes jobs that have a target
  queues text[] not null,               -- names, or beginnings with *; empty = all
  types text[] not null                 -- likewise; of a process: the types of its handlers, none = none
) with (fillfactor = 50);

-- Down Migration
-- Forward only: a mistake is mended by the next migration.
