// The contract of a job that is there: its record, its status, what a patch may change of it. Answers are written without these
// schemas, and a test holds the two together.
// Invariant: payload, result and progress leave as the text that was sent.
// Next room: new-job.ts, what a submit may say; domain/record.ts, which writes what is told.
import { z } from 'zod';
import { isJobId, jobStates } from '../../domain/job.ts';
import { blockedReasons } from '../../domain/options.ts';
import { errorClasses, errorSources } from '../../domain/outcome.ts';
import { bases } from '../../domain/retry-after.ts';
import { JsonValue, moment, name } from './scalars.ts';

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
    http_status: z.int().nullable().describe('What a target answered, but for a success.'),
    detail: z.string().nullable(),
    fingerprint: z.string().nullable().describe('The same for failures of one cause.'),
    next_attempt_at: time.nullable(),
  })
  .meta({ id: 'Attempt', description: 'One start of a job.' });

/** A unique key as it is told. */
export const shownUnique = z.object({
  key: z.string(),
  while: z.array(z.string()),
  window_seconds: z.int().optional(),
  on_conflict: z.string(),
});

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
    unique: shownUnique.optional().describe('The key of which it may be the holder, as it was submitted.'),
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
