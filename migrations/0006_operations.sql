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

-- Down Migration
-- Forward only: a mistake is mended by the next migration.
