// The contract of the lease protocol: what a pull worker sends and is told (docs/contract.md, Leases).
// Invariant: `lease_seconds` always means from now on.
// Next room: http/leases.ts.
import { z } from 'zod';
import { longest_place } from '../../domain/fingerprint.ts';
import { jobStates } from '../../domain/job.ts';
import { least_snooze_seconds, most_snooze_seconds } from '../../domain/start.ts';
import { JsonValue, name } from './scalars.ts';

const pattern = z
  .string()
  .regex(/^(\*|[a-z0-9][a-z0-9._-]{0,62}\*?)$/, 'must be a name, or the beginning of one followed by *');

const lease_seconds = z.int().min(1).max(3_600).optional();

/** The body of `POST /v1/leases`. */
export const LeaseRequest = z
  .strictObject({
    worker: z
      .string()
      .regex(/^[\x21-\x7e]{1,100}$/, 'must be 1 to 100 visible ASCII characters')
      .default('anonymous')
      .describe('Who works; shown with the job.'),
    version: z
      .string()
      .regex(/^[\x21-\x7e]{1,64}$/, 'must be 1 to 64 visible ASCII characters')
      .optional()
      .describe('Version of the program that works; shown with the worker.'),
    queues: z.array(pattern).max(100).default([]).describe('Queues to take from; absent or empty: all.'),
    types: z.array(pattern).max(100).default([]).describe('Types it can run; absent or empty: all.'),
    limit: z.int().min(1).max(1_000).default(1).describe('Most jobs to hand out.'),
    lease_seconds: lease_seconds.describe('How long the leases stand without a heartbeat.'),
  })
  .meta({ id: 'LeaseRequest', description: 'What a pull worker asks for.' });

/** The body of a heartbeat. */
export const Heartbeat = z
  .strictObject({
    lease_seconds: lease_seconds.describe('How long the lease stands, counted from now.'),
    progress: JsonValue.optional().describe('How far the work is, as `PUT …/progress`; at most 64 KiB.'),
  })
  .meta({ id: 'Heartbeat', description: 'A sign of life.' });

// What is named here is sent back in headers: visible ASCII only, and no path that a browser reads as a foreign host.
const createdUri = z
  .string()
  .max(2_048)
  .regex(
    /^(https?:\/\/[\x21-\x7e]+|\/(?![/\\])[\x21-\x7e]*)$/,
    'must be an http or https URL, or a path that begins with one /, in ASCII without blanks',
  );

/** The body of a completion. */
export const Completion = z
  .strictObject({
    result: JsonValue.optional().describe('The result, served byte for byte; absent: none.'),
    created: createdUri.optional().describe('URI of what the job created.'),
  })
  .meta({ id: 'Completion', description: 'The success of a job.' });

/** The body of a failure. */
export const Failure = z
  .strictObject({
    class: z
      .enum(['retryable', 'permanent', 'poison', 'rate_limited'])
      .default('retryable')
      .describe('permanent and poison end the job at once.'),
    message: z
      .string()
      .optional()
      .describe(
        'For people; keep secrets out of it. The first 2,000 characters are kept, without any U+0000.',
      ),
    retry_after_seconds: z
      .number()
      .min(0)
      .max(86_400)
      .optional()
      .describe('Not again before this many seconds, where that is longer than the backoff.'),
    place: z
      .string()
      .max(longest_place)
      .optional()
      .describe(
        'Where in the worker it happened, for its fingerprint: a function and a file, say, without the line.',
      ),
  })
  .meta({ id: 'Failure', description: 'The failure of an attempt.' });

/** The body of a snooze. */
export const SnoozeWish = z
  .strictObject({
    delay_seconds: z
      .number()
      .min(least_snooze_seconds)
      .max(most_snooze_seconds)
      .describe('Not again before this many seconds.'),
  })
  .meta({ id: 'SnoozeWish', description: 'When a job wants to run again.' });

/** The body of a snooze. */
export type SnoozeWish = z.output<typeof SnoozeWish>;

/** The body of a release. */
export const Release = z
  .strictObject({
    delay_seconds: z.number().min(0).max(86_400).default(0).describe('Not again before this many seconds.'),
  })
  .meta({ id: 'Release', description: 'Gives a job back unrun.' });

const time = z.iso.datetime();

/** A job in the hands of a pull worker. */
export const Lease = z
  .object({
    id: z.string().describe('Names this start of this job; everything about it is sent to this id.'),
    epoch: z.int().describe('Number of this start: a fencing token for writes of your own.'),
    attempt: z.int(),
    expires_at: time.describe('When the lease ends unless a heartbeat comes.'),
    deadline: time.describe('When the attempt ends in any case.'),
    checkpoint: JsonValue.nullable().describe('The last one an earlier start of the job left; null: none.'),
    job: z.object({
      id: z.string(),
      queue: name,
      type: name,
      priority: z.int(),
      max_attempts: z.int(),
      created_at: time,
      payload: JsonValue.optional().describe('The payload; a text where it is not JSON.'),
      payload_base64: z.string().optional().describe('In its place, where the payload is no text.'),
      schedule: z
        .object({ name: z.string(), slot: time })
        .optional()
        .describe('The schedule that made the job, and the slot it was made for.'),
      content_type: z.string().optional().describe('Media type of the payload, where it is not JSON.'),
      traceparent: z.string().optional().describe('W3C trace context of the submit.'),
      tracestate: z.string().optional(),
    }),
  })
  .meta({ id: 'Lease', description: 'A job handed out.' });

/** The answer of `POST /v1/leases`. */
export const LeaseList = z
  .object({ leases: z.array(Lease).describe('Empty when there was nothing in time.') })
  .meta({ id: 'LeaseList', description: 'The jobs handed out.' });

/** The answer of a heartbeat. */
export const LeaseExtension = z
  .object({
    expires_at: time,
    cancel_requested: z.boolean().describe('Somebody wants the job stopped: stop and fail or release it.'),
    draining: z.boolean().describe('The server is stopping; the lease stands, another replica answers on.'),
  })
  .meta({ id: 'LeaseExtension', description: 'How the lease stands.' });

/** The answer of a failure or a release. */
export const AttemptEnd = z
  .object({
    id: z.string(),
    state: z.enum(jobStates),
    next_attempt_at: time.nullable(),
  })
  .meta({ id: 'AttemptEnd', description: 'What became of the job.' });

export type LeaseRequest = z.output<typeof LeaseRequest>;
export type Heartbeat = z.output<typeof Heartbeat>;
export type Completion = z.output<typeof Completion>;
export type Failure = z.output<typeof Failure>;
export type Release = z.output<typeof Release>;

/** The id in the path of a lease; whether it is one is for the protocol to say: 409, not 404. */
export const LeaseParams = z.object({ id: z.string().describe('The id of the lease.') });

export type LeaseParams = z.output<typeof LeaseParams>;
