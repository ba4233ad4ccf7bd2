// The contract of a job: what a submit may say, and what is told of a job. The zod schemas check requests once and are
// the source of openapi.json; answers are written without them, and a test holds the two together.
// Invariants: unknown members are refused; payload stays the text that was sent.
// Next room: http/submit.ts.

import { z } from 'zod';
import { Backoff } from '../../domain/backoff.ts';
import { isJobId, jobStates, namePattern, terminalStates } from '../../domain/job.ts';
import { RawJson } from '../../domain/json.ts';
import { blockedReasons } from '../../domain/options.ts';
import { errorClasses, errorSources } from '../../domain/outcome.ts';
import { Target } from '../../domain/push.ts';
import { bases } from '../../domain/retry-after.ts';
import { Unique } from '../../domain/unique.ts';

/** A JSON value kept as it was sent; the body parser makes it. */
export const JsonValue = z
  .custom<RawJson>((value) => value instanceof RawJson, 'must be a JSON value')
  .meta({ id: 'JsonValue', description: 'Any JSON value; it is kept and given back byte for byte.' });

/** The name of a queue or the type of a job. */
export const name = z
  .string()
  .regex(namePattern, 'must be 1 to 63 of a-z 0-9 . _ - and begin with a letter or a digit');

const earliest = Date.parse('1970-01-01T00:00:00Z');
const latest = Date.parse('9999-12-31T23:59:59.999Z');
const ten_years_in_seconds = 315_360_000;

const notATime = 'must be an RFC 3339 time with an offset, such as 2026-01-02T03:04:05Z';

/** A moment in a request: RFC 3339 with an offset, in the years 1970 to 9999. It goes on in UTC. */
export const moment = z.iso
  .datetime({
    offset: true,
    abort: true,
    error: ({ input }) => `${notATime}${/ \d\d:\d\d$/.test(String(input)) ? '; a + in a query is %2B' : ''}`,
  })
  .refine((text) => Date.parse(text) >= earliest && Date.parse(text) <= latest, {
    message: 'must lie in the years 1970 to 9999',
  })
  // Postgres knows fewer offsets than RFC 3339 allows.
  .overwrite((text) => (Number.isNaN(Date.parse(text)) ? text : new Date(text).toISOString()));

const elseSet = 'Absent: what is set of its type or queue, else';

/** Whom to tell of the end of a job. */
export const Callback = z
  .strictObject({
    url: Target.shape.url,
    events: z
      .array(z.enum(terminalStates))
      .min(1)
      .max(terminalStates.length)
      .default([...terminalStates])
      .describe('The ends to tell of; absent: all.'),
    headers: Target.shape.headers,
  })
  .meta({ id: 'Callback', description: 'Whom to tell of the end: a signed push of its own, retried.' });

/** The body of `POST /v1/jobs`. */
export const NewJob = z
  .strictObject({
    queue: name.default('default').describe('Queue the job goes to; it exists once it is named.'),
    type: name.describe('What kind of work it is: handlers and workers choose by it.'),
    payload: JsonValue.optional().describe('What the worker is given; null when absent.'),
    priority: z.int().min(0).max(9).default(5).describe('0 is the most urgent, 9 the least.'),
    run_at: moment.optional().describe('Not before this time. Not together with delay_seconds.'),
    delay_seconds: z
      .number()
      .min(0)
      .max(ten_years_in_seconds)
      .optional()
      .describe('Not before this many seconds from now. Not together with run_at.'),
    expires_at: moment
      .nullable()
      .optional()
      .describe('A job that has not started by then never starts: it becomes expired.'),
    max_attempts: z
      .int()
      .min(1)
      .max(100)
      .optional()
      .describe(`Attempts before the job is dead. ${elseSet} 8.`),
    backoff: Backoff.optional(),
    timeout_seconds: z
      .int()
      .min(1)
      .max(86_400)
      .optional()
      .describe(`Longest run of one attempt, in seconds. ${elseSet} 60.`),
    max_age_seconds: z
      .int()
      .min(1)
      .max(ten_years_in_seconds)
      .optional()
      .describe(
        `No further attempt begins later than this after the job was due first. ${elseSet} no limit.`,
      ),
    on_timeout: z
      .enum(['detach', 'cancel'])
      .default('detach')
      .describe('What becomes of a job that runs when a demanded wait is over: it goes on, or is cancelled.'),
    tags: z
      .array(z.string().min(1).max(63))
      .max(20)
      .optional()
      .describe('Up to 20 words of yours, 1 to 63 characters each.'),
    target: Target.optional(),
    callback: Callback.optional(),
    unique: Unique.optional(),
  })
  .refine((job) => job.run_at === undefined || job.delay_seconds === undefined, {
    path: ['delay_seconds'],
    message: 'does not go together with run_at; send one of the two',
  })
  .refine(
    (job) =>
      job.run_at === undefined ||
      job.expires_at == null ||
      Date.parse(job.run_at) < Date.parse(job.expires_at),
    { path: ['expires_at'], message: 'must be later than run_at' },
  )
  .meta({ id: 'NewJob', description: 'A job to run.' });

/** A validated submit, defaults filled in. */
export type NewJob = z.output<typeof NewJob>;

const usualMembers: ReadonlySet<string> = new Set(['queue', 'type', 'payload', 'priority']);

/**
 * What NewJob makes of a body that holds nothing but the members most have; null: ask NewJob. Ten times cheaper, on the path
 * of every submit. It may take less than NewJob, never more; a property test holds the two together.
 */
export function usualJob(body: unknown): NewJob | null {
  if (body === null || typeof body !== 'object') return null;
  for (const member of Object.keys(body)) if (!usualMembers.has(member)) return null;
  const { queue = 'default', type, payload, priority = 5 } = body as Record<string, unknown>;
  if (typeof type !== 'string' || !namePattern.test(type)) return null;
  if (typeof queue !== 'string' || !namePattern.test(queue)) return null;
  if (!(payload instanceof RawJson)) return null;
  if (!Number.isInteger(priority) || (priority as number) < 0 || (priority as number) > 9) return null;
  return {
    queue,
    type,
    payload,
    priority: priority as number,
    on_timeout: 'detach',
  };
}

const time = z.iso.datetime();
const id = z.string().describe('Opaque; growing with time.');
const state = z
  .enum(jobStates)
  .describe('New states may be added within v1: rely on `terminal` to know whether it is an end.');
const terminal = z.boolean().describe('Whether the state is one the job never leaves.');

/** The error a job ended with, or its last attempt. */
export const JobError = z
  .object({
    type: z.string(),
    code: z.string(),
    status: z.int().describe('What a synchronous caller is answered.'),
    class: z.enum(errorClasses).nullable(),
    source: z.enum(errorSources),
    detail: z.string().nullable(),
    http_status: z.int().nullable().optional(),
    fingerprint: z.string().optional().describe('The same for failures of one cause.'),
  })
  .meta({ id: 'JobError', description: 'Why a job, or its last attempt, failed.' });

const end = {
  result: z.string().nullable().describe('Path of the result, once there is one.'),
  created: z.string().nullable().describe('URI of what the job created, as its worker named it.'),
  error: JobError.nullable(),
};

const progress = JsonValue.nullable().describe(
  'The latest progress its workers reported, as they sent it; null: none.',
);

const Estimate = z
  .object({ seconds: z.int(), basis: z.enum(bases) })
  .meta({ id: 'Estimate', description: 'Retry-After of a job that is open, and what it was made of.' });

/** One start of a job. */
export const Attempt = z
  .object({
    epoch: z.int(),
    attempt: z.int(),
    outcome: z
      .enum(['succeeded', 'dead', 'cancelled', 'expired', 'retry', 'lost', 'released', 'snoozed'])
      .nullable()
      .describe('How it ended; null: it is under way.'),
    worker: z.string().nullable(),
    started_at: time,
    finished_at: time.nullable(),
    run_ms: z.number().nullable(),
    class: z.enum(errorClasses).nullable(),
    source: z.enum(errorSources).nullable(),
    http_status: z.int().nullable(),
    detail: z.string().nullable(),
    fingerprint: z.string().nullable().describe('The same for failures of one cause.'),
    next_attempt_at: time.nullable(),
  })
  .meta({ id: 'Attempt', description: 'One start of a job.' });

/** The record of a job, as `domain/record.ts` writes it. */
export const Job = z
  .object({
    id,
    queue: z.string(),
    type: z.string(),
    state,
    terminal,
    cancel_requested: z.boolean(),
    priority: z.int(),
    attempt: z.int().describe('Starts that count towards max_attempts.'),
    max_attempts: z.int(),
    epoch: z.int().describe('Number of the last start: the fencing token of whoever runs it.'),
    timeout_seconds: z.int(),
    created_at: time,
    run_at: time.describe('When it was or will be due.'),
    expires_at: time.nullable(),
    started_at: time.nullable(),
    finished_at: time.nullable(),
    wait_ms: z.number().nullable().describe('From due to started.'),
    run_ms: z.number().nullable(),
    worker: z.string().nullable(),
    tags: z.array(z.string()),
    ...end,
    progress,
    target: z
      .object({ url: z.string(), method: z.string(), headers: z.array(z.string()) })
      .optional()
      .describe('Where the job is pushed to; of its headers only the names are told.'),
    callback: z
      .object({ url: z.string(), events: z.array(z.string()), headers: z.array(z.string()) })
      .optional()
      .describe('Whom the end is told to.'),
    unique: z
      .object({
        key: z.string(),
        while: z.array(z.string()),
        window_seconds: z.int().optional(),
        on_conflict: z.string(),
      })
      .optional()
      .describe('The key of which it may be the holder, as it was submitted.'),
    blocked_by: z.string().optional().describe('While it is blocked: the job that holds its key.'),
    blocked_reason: z
      .enum(blockedReasons)
      .optional()
      .describe('`rerun`: it runs after that one. `parked`: it fell due while that one held the key.'),
    schedule: z
      .object({ name: z.string(), slot: time })
      .optional()
      .describe('The schedule that made the job, and the slot it was made for.'),
    backoff: z
      .looseObject({ strategy: z.string() })
      .optional()
      .describe('Absent: exponential from 2 s to 900 s with full jitter.'),
    max_age_seconds: z.int().optional().describe('Absent: no limit.'),
    retry_of: z.string().optional().describe('The job this one repeats.'),
    callback_of: z.string().optional().describe('The job of whose end this one tells.'),
    traceparent: z.string().optional(),
    content_type: z.string().optional().describe('Media type of the payload, where it is not JSON.'),
    estimate: Estimate.optional(),
    payload: JsonValue.optional().describe('Only with ?include=payload; a text where it is not JSON.'),
    payload_base64: z.string().optional().describe('In its place, where the payload is no text.'),
    attempts: z.array(Attempt).optional().describe('Only with ?include=attempts: newest first, at most 100.'),
  })
  .meta({ id: 'Job', description: 'A job.' });

/** The answer of `POST /v1/jobs/validate`. */
export const Preview = z
  .object({
    accepted: z.boolean().describe('Whether its queue would take it at this moment, from this caller.'),
    mode: z.string().nullable().describe('How the caller would be answered, as in `Errand-Mode`.'),
    refusal: z
      .object({
        code: z.string(),
        status: z.int(),
        detail: z.string(),
        reason: z.string().nullable(),
        retry_after_seconds: z.int().nullable(),
      })
      .nullable()
      .describe('What it would be refused with.'),
    job: Job.omit({ id: true }).describe('The record the job would have; it has no id yet.'),
    attempts: z.array(
      z.object({
        attempt: z.int(),
        after_seconds: z
          .object({ min: z.number(), max: z.number() })
          .describe('From the end of the attempt before it; chance makes it a range.'),
      }),
    ),
  })
  .meta({ id: 'Preview', description: 'What a submit would make of a job.' });

/** The body of `PATCH /v1/jobs/{id}`. */
export const JobPatch = z
  .strictObject({
    queue: name.optional(),
    priority: z.int().min(0).max(9).optional(),
    run_at: moment.nullable().optional().describe('Not before this time; null: due now.'),
    max_attempts: z.int().min(1).max(100).optional(),
    tags: z
      .array(z.string().min(1).max(63))
      .max(20)
      .nullable()
      .optional()
      .describe('All of them; null: none.'),
  })
  .refine((patch) => Object.keys(patch).length > 0, 'names nothing to change; send at least one member')
  .meta({ id: 'JobPatch', description: 'What is to change of a job.' });

/** A validated patch. */
export type JobPatch = z.output<typeof JobPatch>;

/** What a poller needs to know of a job. */
export const JobStatus = z
  .object({
    id,
    state,
    terminal,
    attempt: z.int(),
    cancel_requested: z.boolean(),
    ...end,
    progress,
    estimate: Estimate.optional(),
  })
  .meta({ id: 'JobStatus', description: 'How far a job is.' });

/** `?include=payload,attempts`. */
export const JobQuery = z.strictObject({
  include: z
    .string()
    .regex(/^(payload|attempts)(,(payload|attempts))?$/, 'must be payload, attempts, or both with a comma')
    .optional()
    .describe('`payload`, `attempts`, or both with a comma: what the record is to have besides.'),
});

/** `?include=payload,attempts`, parsed. */
export type JobQuery = z.output<typeof JobQuery>;

/** The id in the path of a job; what cannot be one is refused before the database is asked. */
export const JobParams = z.object({ id: z.string().refine(isJobId).describe('The id of the job.') });

/** The id in the path of a job. */
export type JobParams = z.output<typeof JobParams>;

/** A body that may be absent and holds nothing yet. */
export const NoMembers = z.strictObject({}).meta({ id: 'NoMembers', description: 'Nothing; reserved.' });
