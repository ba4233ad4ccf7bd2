-- Up Migration
-- Failures have a place: each has a fingerprint, by which those of one cause are found together, and each job that died
-- has a letter until somebody redrives or discards it.
-- Invariants: the letter is written by the statement that writes the dead outcome, and by no other; what does not die
-- writes nothing here.

-- fingerprint: 16 hex digits (domain/fingerprint.ts), null where a start did not fail or failed before there were any.
alter table errand.outcome add column fingerprint text;

-- Dead letter: a dead job about which nobody has decided. What it died of is repeated here, so that letters are filtered
-- and grouped without reading outcomes.
create table errand.dead_letter (
  job_id bigint primary key,
  discarded_by bigint,                -- null: in the list; 0: discarded by a call; else by the operation of this id
  died_at timestamptz not null,
  lane int not null,
  http_status smallint,
  class errand.failure_class,
  source errand.failure_source,
  fingerprint text
);
-- The lists: by death, all of them, of a lane, of a cause. job_id + 0, so that no look-up by id takes one of them.
create index dead_letter_died on errand.dead_letter (died_at, (job_id + 0)) where discarded_by is null;
create index dead_letter_lane on errand.dead_letter (lane, died_at, (job_id + 0)) where discarded_by is null;
create index dead_letter_cause on errand.dead_letter (fingerprint, died_at, (job_id + 0)) where discarded_by is null;
create index dead_letter_discarded on errand.dead_letter (discarded_by, (job_id + 0)) where discarded_by is not null;

insert into errand.dead_letter (job_id, died_at, lane, http_status, class, source)
select o.job_id, o.finished_at, o.lane, o.http_status, o.class, o.source from errand.outcome o
where o.status = 'dead'
  and not exists (select from errand.successor s where s.job_id = o.job_id and s.kind = 'retry');

-- Down Migration
-- Forward only: a mistake is mended by the next migration.
