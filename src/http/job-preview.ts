// POST /v1/jobs/validate: what a submit would make of a body, and when its attempts would come; nothing is stored.
// Invariant: it refuses exactly what POST /v1/jobs refuses before it stores.
// Next room: submission.ts, which both go through; schedule-preview.ts does the same for schedules.

import type { Actions } from '../actions/actions.ts';
import { type BackoffPolicy, backoffDelayMs, defaultBackoff } from '../domain/backoff.ts';
import { recordText } from '../domain/record.ts';
import { sendJson } from './answer.ts';
import { bodyFaults, type Route, refusals, storeFaults } from './route.ts';
import { NewJob, Preview } from './schemas/job.ts';
import { factsOfNew, submissionOf, type Terms } from './submission.ts';

/** `POST /v1/jobs/validate`. */
export function validateJob({ guards }: Actions, terms: Terms): Route<{ Body: NewJob }> {
  return {
    schema: {
      operationId: 'validateJob',
      summary: 'Check a job without submitting it',
      tags: ['jobs'],
      body: NewJob,
      response: {
        200: { description: 'It would be accepted.', content: { 'application/json': { schema: Preview } } },
        ...refusals(...bodyFaults, ...storeFaults),
      },
    },
    async handler({ body }, reply) {
      const submission = submissionOf(body, { idempotency: null, options: null }, terms);
      const { queue, priority } = submission;
      const refusal = guards.concerns(queue, priority) ? await guards.refusal(queue) : null;
      if (refusal !== null) throw refusal;
      const created_at = reply.server.now();
      const due =
        submission.run_at ?? new Date(created_at.getTime() + (submission.delay_ms ?? 0)).toISOString();
      const state = Date.parse(due) > created_at.getTime() ? 'scheduled' : 'queued';
      const facts = factsOfNew(submission, { id: '0', state, created_at, run_at: new Date(due) });
      const { id: _, ...job } = JSON.parse(recordText(facts));
      const attempts = attemptsOf(
        submission.max_attempts,
        (facts.backoff as BackoffPolicy | null) ?? defaultBackoff,
      );
      return sendJson(reply, 200, JSON.stringify({ job, attempts }));
    },
  };
}

/** When each attempt would begin after the end of the one before, in seconds: chance makes it a range. */
function attemptsOf(max_attempts: number, backoff: BackoffPolicy) {
  const seconds = (attempt: number, chance: number) => backoffDelayMs(backoff, attempt, () => chance) / 1_000;
  return Array.from({ length: max_attempts }, (_, i) => ({
    attempt: i + 1,
    after_seconds: i === 0 ? { min: 0, max: 0 } : { min: seconds(i, 0), max: seconds(i, 1) },
  }));
}
