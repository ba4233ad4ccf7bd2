// The contract of a submit: what may be said of a job that is to run. The zod schemas check requests once and are the source
// of openapi.json.
// Invariants: unknown members are refused; payload stays the text that was sent.
// Next room: http/submit.ts; job.ts, what is told of a job.
import { z } from 'zod';
import { Backoff } from '../../domain/backoff.ts';
import { namePattern, terminalStates } from '../../domain/job.ts';
import { RawJson } from '../../domain/json.ts';
import { Target } from '../../domain/push.ts';
import { Unique } from '../../domain/unique.ts';
import { JsonValue, moment, name } from './scalars.ts';

const ten_years_in_seconds = 315_360_000;
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
