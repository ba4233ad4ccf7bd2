// The contract of a definition: when the slots of a schedule are, how late or crowded ones are treated, and the job each of them
// makes (docs/contract.md, Schedules).
// Invariant: a job of a schedule says what a job that is submitted says, but for the members that name a moment of its own.
// Next room: http/definition.ts, which makes of it what is kept; schedule.ts, what is told of a schedule.
import { z } from 'zod';
import { misfires, overlaps } from '../../domain/schedule.ts';
import { NewJob } from './new-job.ts';
import { partsOf } from './parts.ts';
import { moment } from './scalars.ts';

const {
  queue,
  type,
  payload,
  priority,
  max_attempts,
  backoff,
  timeout_seconds,
  max_age_seconds,
  tags,
  target,
  callback,
  unique,
} = NewJob.shape;

/** The job a slot makes. */
export const ScheduledJob = z
  .strictObject({
    ...{
      queue,
      type,
      payload,
      priority,
      max_attempts,
      backoff,
      timeout_seconds,
      max_age_seconds,
      tags,
      target,
      callback,
      unique,
    },
  })
  .refine((job) => job.unique?.on_conflict !== 'reject', {
    path: ['unique', 'on_conflict'],
    message: 'must not be reject: a slot has no caller to be told; use return, replace or rerun',
  })
  .meta({ id: 'ScheduledJob', description: 'The job that each slot makes.' });

/** The zone of a definition that names none. */
export const usualZone = 'UTC';

const definition = {
  cron: z
    .string()
    .min(1)
    .max(256)
    .nullable()
    .default(null)
    .describe('A cron expression, such as `0 2 * * *` or `@daily`. This or every_seconds.'),
  timezone: z
    .string()
    .min(1)
    .max(64)
    .nullable()
    .default(usualZone)
    .describe('The IANA time zone in which cron is read, such as `Europe/Madrid`; null: UTC.'),
  every_seconds: z
    .int()
    .min(1)
    .max(366 * 86_400)
    .nullable()
    .default(null)
    .describe('Seconds from one slot to the next, counted from starts_at, else from 1970. This or cron.'),
  jitter_seconds: z
    .int()
    .min(0)
    .max(86_400)
    .default(0)
    .describe('Each slot is due up to so much later, always the same for the same slot.'),
  starts_at: moment.nullable().default(null).describe('No slot before this time.'),
  ends_at: moment.nullable().default(null).describe('No slot after this time.'),
  misfire: z
    .enum(misfires)
    .default('fire_latest')
    .describe('What becomes of slots that are later than max_lateness_seconds.'),
  max_lateness_seconds: z
    .int()
    .min(0)
    .max(604_800)
    .default(300)
    .describe('A slot that is at most so late is fired whatever misfire says.'),
  max_catch_up: z
    .int()
    .min(1)
    .max(1_000)
    .default(100)
    .describe('Most slots that fire_all fires when it catches up: the newest.'),
  overlap: z
    .enum(overlaps)
    .default('allow')
    .describe('What becomes of a slot while a job of an earlier one has not ended.'),
  job: ScheduledJob,
};

/** The body of `PUT /v1/schedules/{name}`. */
export const NewSchedule = z
  .strictObject(definition)
  .refine(({ cron, every_seconds }) => (cron === null) !== (every_seconds === null), {
    path: ['cron'],
    message: 'must be given where every_seconds is not, and only there; send one of the two',
  })
  .refine(
    ({ starts_at, ends_at }) =>
      starts_at === null || ends_at === null || Date.parse(starts_at) < Date.parse(ends_at),
    { path: ['ends_at'], message: 'must be later than starts_at' },
  )
  .meta({ id: 'NewSchedule', description: 'A schedule: when, how strictly, and which job.' });

/** A validated schedule, defaults filled in. */
export type NewSchedule = z.output<typeof NewSchedule>;

const ScheduledJobPatch = z
  .strictObject(partsOf(ScheduledJob.shape))
  .meta({ id: 'ScheduledJobPatch', description: 'What is to change of the job that each slot makes.' });

/** The body of `PATCH /v1/schedules/{name}`: the same members, each of which may be left out, or null for its default. */
export const SchedulePatch = z
  .strictObject({ ...partsOf(definition), job: ScheduledJobPatch.optional() })
  .meta({
    id: 'SchedulePatch',
    description: 'What is to change of a schedule; payload is replaced as a whole.',
  });

/** A patch, as it was sent. */
export type SchedulePatch = z.input<typeof SchedulePatch>;
