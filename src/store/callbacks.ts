// Tells of ends: the job that pushes the news of another's end is made in the transaction that writes that end, so the
// news is sent exactly as surely as the end is kept, retried and inspected like any other job.
// Invariant: one callback for each job, whoever ends it; made only when its last outcome is written.
// Next room: actions/settle.ts, actions/cancel.ts and actions/chores.ts, which end jobs.
import type { Db } from './db.ts';
import { type Ending, isTerminal, type Settled, settleWithin } from './endings.ts';
import { sql } from './sql.ts';

/** Settles by settleWithin and makes the callbacks of jobs that ended; run it in a transaction. */
export async function settleAndTell(
  tx: Db,
  endings: readonly Ending[],
  emptied: readonly string[],
): Promise<{ settled: Settled[]; told: Told[] }> {
  const settled = await settleWithin(tx, endings, emptied);
  const wanting = new Set(endings.filter(({ start }) => start.callback).map(({ start }) => start.job_id));
  const ended = settled.filter((one) => isTerminal(one) && wanting.has(one.job_id)).map((one) => one.job_id);
  return { settled, told: ended.length === 0 ? [] : await tx.many(insertCallbacks, [ended]) };
}

/** A callback job that was made, and the head it stands in. */
export interface Told {
  id: string;
  lane: number;
  prio: number;
}

export const insertCallbacks = sql<Told>`
with f as materialized (
  -- Times in UTC to the millisecond, as everywhere they are told: the database may stand in another zone.
  select f.*, f.options -> 'callback' c, to_char(f.created_at at time zone 'utc', iso) created,
    to_char(f.started_at at time zone 'utc', iso) started, to_char(f.finished_at at time zone 'utc', iso) finished
  from errand.job_facts($1::bigint[]) f cross join (values ('YYYY-MM-DD"T"HH24:MI:SS.MS"Z"')) v(iso)
), s as (
  insert into errand.successor (job_id, kind, next_id)
  select id, 'callback', nextval('errand.job_id_seq') from f where c -> 'events' ? state
  on conflict do nothing returning job_id, next_id
), x as materialized (
  select f.*, s.next_id, nextval('errand.block_seq') seq, (c ->> 'lane')::int push_lane from s join f on f.id = s.job_id
), j as (
  insert into errand.job (id, blk, lane, timeout_seconds, priority, max_attempts, payload, options)
  select next_id, seq, push_lane, 30, priority, 8,
    json_build_object('type', 'job.' || state, 'timestamp', finished, 'data', json_build_object(
      'id', x.id::text, 'queue', l.queue, 'type', coalesce(options ->> 'type', l.route), 'state', state,
      'schedule', options -> 'schedule', 'attempt', attempt, 'tags', coalesce(tags, '{}'), 'created_at', created, 'started_at', started,
      'finished_at', finished, 'result', case when has_result then '/v1/jobs/' || x.id || '/result' end,
      'created', created_uri,
      'error', case when class is not null or error is not null then json_build_object(
        'class', class, 'source', source, 'http_status', http_status, 'detail', error) end))::text,
    jsonb_strip_nulls(jsonb_build_object('type', 'errand.callback', 'callback_of', x.id::text,
      'target', jsonb_build_object('url', c ->> 'url', 'method', 'POST', 'headers', c -> 'headers'),
      'traceparent', options ->> 'traceparent', 'tracestate', options ->> 'tracestate'))
  from x join errand.lane l on l.id = x.lane
), b as (
  insert into errand.block (seq, ord, lane, prio, timeout_seconds, ids)
  select seq, seq, push_lane, priority, 30, array[next_id] from x
)
select next_id id, push_lane lane, priority prio from x`;
