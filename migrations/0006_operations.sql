-- Up Migration
-- What operators do to many jobs at once, and the book of everything they do.

-- Audit: who pulled which lever, when and why. Written in the transaction of the lever, so neither is there without the other.
create table errand.audit (
  id bigint generated always as identity primary key,
  tenant int not null default 0,
  at timestamptz not null default errand.now(),
  actor text not null,
  request_id text not null,
  action text not null,               -- such as queue.pause
  target text not null,               -- what it was done to
  reason text,
  facts jsonb not null default '{}'   -- what else is worth knowing: before, after, counts
);
create index audit_at on errand.audit (tenant, at, id);

create function errand.refuse_change() returns trigger language plpgsql as $$
begin
  raise exception 'errand.% is append-only: % is refused', tg_table_name, lower(tg_op);
end $$;
create trigger audit_append_only before update or delete or truncate on errand.audit
  for each statement execute function errand.refuse_change();

-- Operation: something an operator does to many jobs, step by step. Each step is one transaction that locks this row, does a
-- bounded batch and writes here how far it came, so a process that is killed loses nothing and doubles nothing.
create table errand.operation (
  id bigint generated always as identity primary key,
  tenant int not null default 0,
  kind text not null,
  target text not null,
  params jsonb not null,
  reason text,
  actor text not null,
  request_id text not null,
  state text not null default 'running'
    check (state in ('running', 'paused', 'cancelled', 'done', 'failed', 'undone')),
  phase text not null,                -- which kind of step comes next, see domain/operation.ts
  pause_reason text,
  error text,                         -- why the last step failed
  failures int not null default 0,    -- steps that failed in a row
  expected jsonb not null,            -- how many jobs it was to meet when it was begun
  matched bigint not null default 0,  -- how many it has met
  counts jsonb not null default '{}', -- what became of them
  plan jsonb not null default '{}',   -- what it works on, decided by its first step
  cursor jsonb not null default '{}', -- where the next step goes on
  next_at timestamptz default errand.now(),  -- when the next step is due; null: there is none
  undo_until timestamptz,
  created_at timestamptz not null default errand.now(),
  started_at timestamptz,
  finished_at timestamptz,
  idem_key text,
  print bytea,
  unique (tenant, idem_key)
) with (fillfactor = 50);
create index operation_due on errand.operation (next_at) where next_at is not null;

-- Operation item: what became of one dead letter. Jobs that were cancelled or moved say it themselves.
create table errand.operation_item (
  operation_id bigint not null,
  job_id bigint not null,
  at timestamptz not null default errand.now(),
  next_id bigint,                     -- the job that repeats it
  outcome text not null,
  primary key (operation_id, job_id)
);

-- Action: something dangerous that waits until its phrase is typed.
create table errand.action (
  id bigint generated always as identity primary key,
  tenant int not null default 0,
  action text not null,
  target text not null,
  params jsonb not null,
  reason text,
  actor text not null,
  request_id text not null,
  state text not null default 'pending' check (state in ('pending', 'confirmed', 'withdrawn')),
  impact jsonb not null,
  confirm_phrase text not null,
  operation_id bigint,
  created_at timestamptz not null default errand.now(),
  expires_at timestamptz not null
);

-- Down Migration
-- Forward only: a mistake is mended by the next migration.
