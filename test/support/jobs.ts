// Why this room exists: tests of the store write jobs as the database takes them, with every option at its default.
// Next room: src/store/jobs.ts.
import type { NewJob } from '../../src/store/inserts.ts';
import { sql } from '../../src/store/sql.ts';

/** A job for `insertJobs`. */
export function aJob(lane: number, over: Partial<NewJob> = {}): NewJob {
  return {
    lane,
    priority: 5,
    max_attempts: 100,
    timeout_seconds: 60,
    payload: '{}',
    run_at: null,
    delay_ms: null,
    expires_at: null,
    backoff: null,
    tags: null,
    options: null,
    idempotency: null,
    ...over,
  };
}

/** Puts `$2` ready jobs into lane `$1`, each in a block of its own, as if they had come one by one. */
export const crowdOf = sql<never>`
with x as materialized (
  select nextval('errand.job_id_seq') id, nextval('errand.block_seq') seq from generate_series(1, $2::int)
), j as (
  insert into errand.job (id, blk, lane, timeout_seconds, priority, max_attempts, payload)
  select id, seq, $1::int, 60, 5, 8, '{}' from x
)
insert into errand.block (seq, ord, lane, prio, timeout_seconds, ids) select seq, seq, $1::int, 5, 60, array[id] from x`;
