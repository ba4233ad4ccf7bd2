// POST /v1/jobs/batch: many jobs in one call, all or none; or, with `"atomic": false`, each for itself.
// Invariants: an atomic batch is stored by one statement or not at all; without atomicity every item has its own answer,
// and a repeat under the same Idempotency-Key stores only what was not stored before.
// Next room: actions/submit-all.ts; submission.ts, which makes each job.
import type { FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import type { Actions } from '../actions/actions.ts';
import type { Submission, Submitted } from '../actions/submit.ts';
import { fingerprint, parseIdempotencyKey, requestKey } from '../domain/idempotency.ts';
import { Problem, type ProblemFault, toBody } from '../domain/problem.ts';
import { type NamedFacts, recordText } from '../domain/record.ts';
import { headerOf, sendJson, spliced, statusPath } from './answer.ts';
import { bytesOf, most_items } from './body.ts';
import { problemOr } from './problem.ts';
import { bodyFaults, type Route, refusals, storeFaults, withHeaders } from './route.ts';
import { Batched, BatchItem, BatchOutcome, JobBatch } from './schemas/batch.ts';
import { submissionOf, type Terms, traceOf } from './submission.ts';
import { factsOf } from './submit.ts';
import { checked } from './validate.ts';

const route = 'POST /v1/jobs/batch';

/** The body as it is used: each item is a job, or the problem with it. */
interface Checked {
  atomic: boolean;
  items: (BatchItem | Problem)[];
}

/** `POST /v1/jobs/batch` (docs/contract.md, Batches). */
export function submitBatch(actions: Actions, terms: Terms): Route<{ Body: Checked }> {
  return {
    config: {
      negotiates: 'accepted',
      headers: ['Expect', 'Errand-Expect', 'Prefer', 'Idempotency-Key', 'traceparent', 'tracestate'],
    },
    schema: {
      operationId: 'submitBatch',
      summary: 'Submit many jobs',
      description:
        'All are stored or none. With `"atomic": false` each is stored or refused for itself, and 207 tells of each.',
      tags: ['jobs'],
      body: JobBatch,
      response: {
        202: {
          description: 'All are stored. With `Prefer: return=minimal` only id and location are told of each.',
          headers: understood,
          content: { 'application/json': { schema: Batched } },
        },
        207: {
          description: 'What became of each (RFC 4918), in the order of the request.',
          headers: understood,
          content: { 'application/json': { schema: BatchOutcome } },
        },
        ...withHeaders(
          refusals(
            ...bodyFaults,
            ...storeFaults,
            'idempotency-key-missing',
            'idempotency-key-malformed',
            'queue-draining',
            'idempotency-key-reused',
            'idempotency-in-flight',
            'job-not-unique',
            'job-archived',
            'outcome-unknown',
          ),
          { ...understood, ...pointing },
        ),
      },
    },
    check,
    handler: (request, reply) =>
      request.body.atomic
        ? storeAll(actions, terms, request, reply)
        : storeEach(actions, terms, request, reply),
  };
}

const envelope = z.strictObject({ ...JobBatch.shape, jobs: z.array(z.unknown()).min(1).max(most_items) });

/** Checks the envelope, then each item: one that is wrong spoils an atomic batch, and only itself in another. */
function check(body: unknown): Checked {
  const { atomic, jobs } = checked(envelope, body ?? {});
  const items = jobs.map((job, i) => problemOr(() => checked(BatchItem, job, `#/jobs/${i}`)));
  if (atomic) refuseAny(items);
  return { atomic, items };
}

async function storeAll(
  actions: Actions,
  terms: Terms,
  request: FastifyRequest<{ Body: Checked }>,
  reply: FastifyReply,
): Promise<FastifyReply> {
  const made = await acceptedOf(actions, request, submissionsOf(request, terms));
  refuseAny(made);
  const submissions = made as Submission[];
  const submitted = await actions.submitAll(submissions);
  if (submitted.every((one) => one.replayed && !one.deduplicated))
    reply.header('idempotency-replayed', 'true');
  const { returnMinimal, preferenceApplied } = request.answerMode;
  if (preferenceApplied !== null) reply.header('preference-applied', preferenceApplied);
  const jobs = await Promise.all(
    submitted.map(async (one, i) =>
      returnMinimal
        ? JSON.stringify({ id: one.id, location: statusPath(one.id), ...deduplicated(one) })
        : recordWithLocation(await factsOf(actions, submissions[i] as Submission, one), one),
    ),
  );
  return sendJson(reply, 202, `{"jobs":[${jobs.join(',')}]}`);
}

async function storeEach(
  actions: Actions,
  terms: Terms,
  request: FastifyRequest<{ Body: Checked }>,
  reply: FastifyReply,
): Promise<FastifyReply> {
  const made = await acceptedOf(actions, request, submissionsOf(request, terms));
  const store = async (submission: Submission) => {
    const submitted = await actions.submit(submission);
    return recordWithLocation(await factsOf(actions, submission, submitted), submitted);
  };
  const itemOf = async (index: number, isOfTheCall: (problem: Problem) => boolean) => {
    try {
      const submission = made[index] as Submission | Problem;
      if (submission instanceof Problem) throw submission;
      return spliced(JSON.stringify({ index, status: 202 }), 'job', await store(submission));
    } catch (error) {
      if (!(error instanceof Problem) || isOfTheCall(error)) throw error;
      return JSON.stringify({ index, status: error.status, problem: toBody(error, request.id) });
    }
  };
  // Who holds the key of the call is stored first: if that was another request, nothing of this one is stored. That its
  // unique key is held concerns nobody else.
  const holder = made.findIndex((one) => !(one instanceof Problem) && one.idempotency?.of_call);
  const first = holder < 0 ? '' : await itemOf(holder, ({ slug }) => slug !== 'job-not-unique');
  const items = await Promise.all(
    made.map((_, index) => (index === holder ? first : itemOf(index, () => false))),
  );
  return sendJson(reply, 207, `{"items":[${items.join(',')}]}`);
}

function submissionsOf(request: FastifyRequest<{ Body: Checked }>, terms: Terms): (Submission | Problem)[] {
  const nextKey = callKeys(request);
  const options = traceOf(request);
  return request.body.items.map((item, i) => {
    if (item instanceof Problem) return item;
    const { idempotency_key, ...job } = item;
    return problemOr(() => {
      if (nextKey !== null && idempotency_key !== undefined) throw twoKeys(`#/jobs/${i}/idempotency_key`);
      const idempotency = idempotency_key === undefined ? null : itemKeyOf(idempotency_key, job);
      const submission = submissionOf(job, { idempotency, options }, terms, `#/jobs/${i}`);
      return nextKey === null ? submission : { ...submission, idempotency: nextKey() };
    });
  });
}

/** What each queue says of the job that goes to it; it points at the job, where it points at nothing yet. */
async function acceptedOf(
  { accept }: Actions,
  { answerMode: mode, server }: FastifyRequest,
  made: readonly (Submission | Problem)[],
): Promise<(Submission | Problem)[]> {
  const now = server.now();
  const accepted: (Submission | Problem)[] = [];
  for (const [i, submission] of made.entries()) {
    if (submission instanceof Problem) accepted.push(submission);
    else {
      const answer = accept({ submission, mode, now, pointer: `#/jobs/${i}/queue` });
      accepted.push(
        answer instanceof Promise
          ? await answer.then(
              () => submission,
              (error) => refusedAt(i, error),
            )
          : submission,
      );
    }
  }
  return accepted;
}

function refusedAt(i: number, error: unknown): Problem {
  if (!(error instanceof Problem) || error.status === 503) throw error;
  const { slug, detail, headers, extra } = error;
  const fault: ProblemFault = { pointer: `#/jobs/${i}`, code: slug, detail };
  return new Problem(slug, {
    detail,
    headers,
    extra,
    errors: error.errors.length > 0 ? error.errors : [fault],
  });
}

/**
 * Gives the jobs of a call their keys: the first the key of the call itself, each further one that key with "#" and a
 * number, which is no key that a caller can send. Null where the call has no key.
 */
function callKeys(request: FastifyRequest): (() => Submission['idempotency']) | null {
  const key = parseIdempotencyKey(headerOf(request, 'idempotency-key'));
  if (key === null) return null;
  const print = fingerprint(route, 'application/json', bytesOf(request));
  let given = 0;
  return () => {
    const own = given === 0 ? key : `${key}#${given}`;
    given++;
    return requestKey(own, print, true);
  };
}

function twoKeys(pointer: string): Problem {
  const detail = 'does not go together with the Idempotency-Key of the call; send one of the two';
  return new Problem('validation-failed', {
    detail: `${pointer} ${detail}`,
    errors: [{ pointer, code: 'conflict', detail }],
  });
}

function itemKeyOf(key: string, job: Omit<BatchItem, 'idempotency_key'>): Submission['idempotency'] {
  const text = JSON.stringify({ ...job, payload: job.payload?.text });
  return requestKey(key, fingerprint(`${route} item`, 'application/json', Buffer.from(text)));
}

function refuseAny(items: readonly unknown[]): void {
  const problems = items.filter((item): item is Problem => item instanceof Problem);
  const first = problems[0];
  if (first === undefined) return;
  const errors: ProblemFault[] = problems.flatMap((problem) => [...problem.errors]);
  const others = problems.length > 1 ? `; ${problems.length - 1} more jobs are refused` : '';
  const { slug, headers, extra } = first;
  throw new Problem(slug, {
    detail: `${first.detail}${others}`,
    headers,
    extra,
    errors: errors.slice(0, most_faults),
  });
}

const most_faults = 20;

function recordWithLocation(facts: NamedFacts, submitted: Submitted): string {
  const start = JSON.stringify({ location: statusPath(facts.id), ...deduplicated(submitted) });
  return `${start.slice(0, -1)},${recordText(facts).slice(1)}`;
}

/** Of a job that another request made and that holds the unique key. */
function deduplicated(submitted: Submitted): { deduplicated?: true } {
  return submitted.replayed && submitted.deduplicated ? { deduplicated: true } : {};
}

const understood = {
  'Errand-Mode': { type: 'string', description: 'How the request was understood.' },
  'Preference-Applied': { type: 'string', description: 'The wishes that were honoured.' },
  'Idempotency-Replayed': { type: 'string', description: '`true` where every job was there already.' },
} as const;

const pointing = {
  Location: { type: 'string', description: 'The status of the job that holds the unique key.' },
} as const;
