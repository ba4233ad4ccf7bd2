// Why this room exists: tests of the store write jobs as the database takes them, with every option at its default.
// Next room: src/store/jobs.ts.
import type { NewJob } from '../../src/store/jobs.ts';

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
