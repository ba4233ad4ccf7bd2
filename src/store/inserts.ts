// How a job comes into being. One statement per flush: jobs, their blocks and their idempotency keys commit together or not
// at all.
// Invariant: a job is in exactly one place: a block, `later`, a lease, or its terminal outcome.
// Next room: actions/ready.ts, which tells that it can start; claims.ts moves it on.

import type { RequestKey } from '../domain/idempotency.ts';
import type { JobOptions } from '../domain/options.ts';
import type { Db } from './db.ts';
import { hot, numbers, sql } from './sql.ts';

/** A job as it is inserted; times are RFC 3339 text, absent options null. */
export interface NewJob {
  lane: number;
  priority: number;
  max_attempts: number;
  timeout_seconds: number;
  payload: string;
  run_at: string | null;
  delay_ms: number | null;
  expires_at: string | null;
  backoff: string | null;
  tags: readonly string[] | null;
  options: JobOptions | null;
  idempotency: RequestKey | null;
  /** The id it is to have, where it was named before it was made. */
  id?: string;
  /** It waits for the holder of its key. */
  waits?: boolean;
  /** It gets a block of its own. */
  alone?: boolean;
}

/** What became of one inserted job; null = its idempotency key already names another job. */
export type Inserted = { id: string; created_at: Date; run_at: Date | null; scheduled: boolean } | null;

/** What one flush did: the answers in the order of the jobs, and the heads that became ready. */
export interface Flushed {
  inserted: Inserted[];
  heads: { lane: number; prio: number }[];
  first_block: string;
}

/** Inserts a batch of jobs in one statement. */
export async function insertJobs(db: Db, jobs: readonly NewJob[]): Promise<Flushed> {
  const arePlain = jobs.every(isPlain);
  const [first] = jobs;
  if (arePlain && first !== undefined && jobs.every((job) => areAlike(job, first))) {
    const { lane, priority, timeout_seconds, max_attempts } = first;
    const row = await db.one(insertAlike, [lane, priority, timeout_seconds, max_attempts, joined(jobs)]);
    return flushed(row, [{ lane, prio: priority }]);
  }
  const groups = groupByBlock(jobs);
  const common = [
    numbers(groups.lanes),
    numbers(groups.prios),
    numbers(groups.timeouts),
    numbers(groups.of),
    numbers(jobs.map((job) => job.max_attempts)),
  ];
  const heads = groups.lanes.map((lane, i) => ({ lane, prio: groups.prios[i] as number }));
  if (arePlain) return flushed(await db.one(insertPlain, [...common, joined(jobs)]), heads);
  const rows = await db.many(insertFull, [
    ...common,
    jobs.map((job) => job.payload),
    jobs.map((job) => job.run_at),
    jobs.map((job) => job.delay_ms),
    jobs.map((job) => job.expires_at),
    jobs.map((job) => job.backoff),
    jobs.map((job) => (job.tags === null ? null : JSON.stringify(job.tags))),
    jobs.map((job) => job.idempotency?.tenant ?? 0),
    jobs.map((job) => job.idempotency?.route ?? null),
    jobs.map((job) => job.idempotency?.key ?? null),
    jobs.map((job) => job.idempotency?.print.toString('hex') ?? null),
    jobs.map((job) => (job.options === null ? null : JSON.stringify(job.options))),
    jobs.some((job) => job.id !== undefined) ? jobs.map((job) => job.id ?? null) : null,
    jobs.some((job) => job.waits) ? jobs.map((job) => job.waits ?? false) : null,
  ]);
  const inserted: Inserted[] = jobs.map(() => null);
  for (const row of rows) inserted[row.n - 1] = row;
  return { inserted, heads, first_block: rows[0]?.first_block ?? '0' };
}

// One text is cheaper to write and to read than an array of texts, whose elements are escaped. JSON never holds this
// character; a payload that does, whatever it is, goes the other way.
const separator = '\u0001';

function joined(jobs: readonly NewJob[]): string {
  return jobs.map((job) => job.payload).join(separator);
}

/** What the insert of plain jobs answers. */
interface PlainRow {
  ids: string[];
  created_at: Date;
  first_block: string;
}

function flushed({ ids, created_at, first_block }: PlainRow, heads: Flushed['heads']): Flushed {
  const inserted = ids.map((id) => ({ id, created_at, run_at: null, scheduled: false }));
  return { inserted, heads, first_block };
}

function areAlike(one: NewJob, other: NewJob): boolean {
  return (
    one.lane === other.lane &&
    one.priority === other.priority &&
    one.timeout_seconds === other.timeout_seconds &&
    one.max_attempts === other.max_attempts
  );
}

function isPlain(job: NewJob): boolean {
  return (
    !job.payload.includes(separator) &&
    job.idempotency === null &&
    job.run_at === null &&
    job.delay_ms === null &&
    job.expires_at === null &&
    job.backoff === null &&
    job.tags === null &&
    job.options === null
  );
}

/** Jobs of one block share lane, priority and timeout: a lease on it has one deadline. */
function groupByBlock(jobs: readonly NewJob[]) {
  const index = new Map<string, number>();
  const lanes: number[] = [];
  const prios: number[] = [];
  const timeouts: number[] = [];
  const of = jobs.map((job, i) => {
    const key = `${job.lane} ${job.priority} ${job.timeout_seconds}${job.alone ? ` ${i}` : ''}`;
    let group = index.get(key);
    if (group === undefined) {
      lanes.push(job.lane);
      prios.push(job.priority);
      timeouts.push(job.timeout_seconds);
      group = lanes.length;
      index.set(key, group);
    }
    return group;
  });
  return { lanes, prios, timeouts, of };
}

/** Jobs that differ in nothing but their payload: the usual flush, for a fifth less than `insertPlain`. */
export const insertAlike = hot<PlainRow>('insert_alike')`
with s as materialized (
  select nextval('errand.block_seq') seq
), x as materialized (
  select nextval('errand.job_id_seq') id, payload, n from string_to_table($5, e'\x01') with ordinality u(payload, n)
), y as materialized (
  select array_agg(id order by n) ids from x
), j as (
  insert into errand.job (id, blk, lane, timeout_seconds, priority, max_attempts, payload)
  select id, (select seq from s), $1::int, $3::int, $2::int2, $4::int2, payload from x
), b as (
  insert into errand.block (seq, ord, lane, prio, timeout_seconds, ids) select seq, seq, $1, $2, $3, ids from s, y
)
select ids, errand.now() created_at, seq first_block from s, y`;

export const insertPlain = hot<PlainRow>('insert_plain')`
with s as materialized (
  select nextval('errand.block_seq') seq, lane, prio, timeout_seconds, g
  from unnest($1::int[], $2::int2[], $3::int[]) with ordinality u(lane, prio, timeout_seconds, g)
), a as materialized (
  select array_agg(seq order by g) seq, array_agg(lane order by g) lane, array_agg(prio order by g) prio,
    array_agg(timeout_seconds order by g) timeout_seconds from s
), x as materialized (
  select nextval('errand.job_id_seq') id, g, payload, max_attempts, n
  from rows from (unnest($4::int[]), unnest($5::int2[]), string_to_table($6, e'\x01')) with ordinality
    u(g, max_attempts, payload, n)
), j as (
  insert into errand.job (id, blk, lane, timeout_seconds, priority, max_attempts, payload)
  select id, (select seq from a)[g], (select lane from a)[g], (select timeout_seconds from a)[g], (select prio from a)[g],
    max_attempts, payload from x
), b as (
  insert into errand.block (seq, ord, lane, prio, timeout_seconds, ids)
  select (select seq from a)[g], (select seq from a)[g], (select lane from a)[g], (select prio from a)[g],
    (select timeout_seconds from a)[g], ids
  from (select g, array_agg(id order by id) ids from x group by g) y
)
select array_agg(id order by n) ids, errand.now() created_at, (select min(seq) from s) first_block from x`;

export const insertFull = hot<{
  n: number;
  id: string;
  created_at: Date;
  run_at: Date | null;
  scheduled: boolean;
  first_block: string;
}>('insert_full')`
with s as materialized (
  select nextval('errand.block_seq') seq, lane, prio, timeout_seconds, g
  from unnest($1::int[], $2::int2[], $3::int[]) with ordinality u(lane, prio, timeout_seconds, g)
), a as materialized (
  select array_agg(seq order by g) seq, array_agg(lane order by g) lane, array_agg(prio order by g) prio,
    array_agg(timeout_seconds order by g) timeout_seconds from s
), x as materialized (
  select coalesce(u.reserved, nextval('errand.job_id_seq')) id, u.*,
    coalesce(u.at, errand.now() + u.delay_ms * interval '1 ms') run_at
  from unnest($4::int[], $5::int2[], $6::text[], $7::timestamptz[], $8::float8[], $9::timestamptz[], $10::text[],
    $11::text[], $12::int[], $13::text[], $14::text[], $15::text[], $16::text[], $17::bigint[], $18::boolean[]) with ordinality
    u(g, max_attempts, payload, at, delay_ms, expires_at, backoff, tags, tenant, route, key, print, options, reserved, waits, n)
), k as (
  -- Sorted, so that two batches with the same keys wait for each other instead of deadlocking.
  insert into errand.idem (tenant, route, key, job_id, print)
  select tenant, route, key, id, decode(print, 'hex') from x where key is not null order by tenant, route, key
  on conflict do nothing returning job_id
), y as materialized (
  select x.*, waits is not true and coalesce(run_at > errand.now(), false) scheduled,
    waits is not true and (run_at > errand.now()) is not true ready
  from x where key is null or id = any(array(select job_id from k))
), j as (
  insert into errand.job (id, blk, lane, timeout_seconds, priority, max_attempts, payload, run_at, expires_at, backoff, tags,
    options)
  select id, case when ready then (select seq from a)[g] when scheduled then 0 else -1 end, (select lane from a)[g],
    (select timeout_seconds from a)[g], (select prio from a)[g], max_attempts, payload, run_at, expires_at,
    backoff::jsonb, case when tags is not null then array(select jsonb_array_elements_text(tags::jsonb)) end,
    options::jsonb
  from y
), b as (
  insert into errand.block (seq, ord, lane, prio, timeout_seconds, ids)
  select (select seq from a)[g], (select seq from a)[g], (select lane from a)[g], (select prio from a)[g],
    (select timeout_seconds from a)[g], ids
  from (select g, array_agg(id order by id) ids from y where ready group by g) z
), w as (
  insert into errand.later (job_id, run_at, lane, timeout_seconds, epoch, prio, attempt, keyed)
  select id, run_at, (select lane from a)[g], (select timeout_seconds from a)[g], 1, (select prio from a)[g], 1,
    case when options::jsonb ? 'unique' then true end
  from y where scheduled
), v as (
  insert into errand.blocked (job_id, run_at, tenant, lane, timeout_seconds, prio, parked, key)
  select id, run_at, tenant, (select lane from a)[g], (select timeout_seconds from a)[g], (select prio from a)[g], false,
    options::jsonb -> 'unique' ->> 'key'
  from y where waits
), q as (
  insert into errand.tag (tenant, tag, job_id)
  select distinct tenant, v.tag, id from y cross join lateral jsonb_array_elements_text(tags::jsonb) v(tag)
  where tags is not null
), e as (
  insert into errand.expiring (expires_at, job_id) select expires_at, id from y where expires_at is not null
)
select n::int, id, errand.now() created_at, run_at, scheduled, (select min(seq) from s) first_block from y`;

/** The jobs that hold these idempotency keys; a missing one is still uncommitted. */
export const findIdempotent = sql<{ n: number; job_id: string; print: Buffer }>`
select u.n::int, i.job_id, i.print
from unnest($1::int[], $2::text[], $3::text[]) with ordinality u(tenant, route, key, n)
join errand.idem i on i.tenant = u.tenant and i.route = u.route and i.key = u.key`;
