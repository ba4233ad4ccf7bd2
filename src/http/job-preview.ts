// POST /v1/jobs/validate: what a submit would make of a body, and when its attempts would come; nothing is stored.
// Invariant: a body that POST /v1/jobs would refuse is refused; what its queue would say of it is in the report, also of how
// the caller would be answered.
// Next room: submission.ts, which both go through; schedule-preview.ts does the same for schedules.

import type { Actions } from '../actions/actions.ts';
import type { Submission } from '../actions/submit.ts';
import { type BackoffPolicy, backoffDelayMs, defaultBackoff } from '../domain/backoff.ts';
import type { AnswerMode } from '../domain/expectation.ts';
import { Problem } from '../domain/problem.ts';
import { recordText } from '../domain/record.ts';
import { sendJson } from './answer.ts';
import { bodyFaults, type Route, refusals, storeFaults, withHeaders } from './route.ts';
import { Preview } from './schemas/job.ts';
import { NewJob } from './schemas/new-job.ts';
import { factsOfNew, submissionOf, type Terms } from './submission.ts';
import { idempotencyOf } from './submit.ts';

const understood = {
  'Errand-Mode': { type: 'string', description: 'How the headers alone were understood.' },
} as const;

/** `POST /v1/jobs/validate`. */
export function validateJob(actions: Actions, terms: Terms): Route<{ Body: NewJob }> {
  return {
    config: { negotiates: 'all', headers: ['Expect', 'Errand-Expect', 'Prefer', 'Idempotency-Key'] },
    schema: {
      operationId: 'validateJob',
      summary: 'Check a job without submitting it',
      description:
        'Send it with the headers the submit would have: the report says whether its queue would take it now, in which ' +
        'mode, or what refuses it.',
      tags: ['jobs'],
      body: NewJob,
      response: {
        200: {
          description: 'What it would become.',
          headers: understood,
          content: { 'application/json': { schema: Preview } },
        },
        ...withHeaders(
          refusals(...bodyFaults, ...storeFaults, 'idempotency-key-malformed', 'idempotency-key-reused'),
          understood,
        ),
      },
    },
    async handler(request, reply) {
      const { body } = request;
      const submission = submissionOf(body, { idempotency: idempotencyOf(request), options: null }, terms);
      const created_at = reply.server.now();
      const verdict = await verdictOf(actions, submission, request.answerMode, created_at);
      const due =
        submission.run_at ?? new Date(created_at.getTime() + (submission.delay_ms ?? 0)).toISOString();
      const state = Date.parse(due) > created_at.getTime() ? 'scheduled' : 'queued';
      const facts = factsOfNew(submission, { id: '0', state, created_at, run_at: new Date(due) });
      const { id: _, ...job } = JSON.parse(recordText(facts));
      const attempts = attemptsOf(
        submission.max_attempts,
        (facts.backoff as BackoffPolicy | null) ?? defaultBackoff,
      );
      return sendJson(reply, 200, JSON.stringify({ ...verdict, job, attempts }));
    },
  };
}

/** What the queue would say of a job at this moment. */
async function verdictOf({ accept, guards }: Actions, submission: Submission, mode: AnswerMode, now: Date) {
  const { queue, priority } = submission;
  try {
    const answered = await accept({ submission, mode, now, pointer: '#/queue' });
    const refusal = guards.concerns(queue, priority) ? await guards.refusal(queue) : null;
    if (refusal !== null) throw refusal;
    return { accepted: true, mode: answered.errandMode, refusal: null };
  } catch (error) {
    if (!(error instanceof Problem) || error.slug === 'database-unavailable') throw error;
    const { slug: code, status, detail, extra, retry_after_seconds } = error;
    const refusal = { code, status, detail, reason: extra.reason ?? null, retry_after_seconds };
    return { accepted: false, mode: null, refusal };
  }
}

/** When each attempt would begin after the end of the one before, in seconds: chance makes it a range. */
function attemptsOf(max_attempts: number, backoff: BackoffPolicy) {
  const seconds = (attempt: number, chance: number) => backoffDelayMs(backoff, attempt, () => chance) / 1_000;
  return Array.from({ length: max_attempts }, (_, i) => ({
    attempt: i + 1,
    after_seconds: i === 0 ? { min: 0, max: 0 } : { min: seconds(i, 0), max: seconds(i, 1) },
  }));
}
