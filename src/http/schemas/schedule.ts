// The contract of a schedule: when its slots are, how late or crowded ones are treated, and the job each of them makes
// (docs/contract.md, Schedules).
// Invariant: a job of a schedule says what a job that is submitted says, but for the members that name a moment of its own.
// Next room: http/definition.ts, which makes of it what is kept.
import { z } from 'zod';
import { misfires, overlaps, slotOutcomes, slotReasons } from '../../domain/schedule.ts';
import { scheduleStates } from '../../domain/schedule-record.ts';
import { NewJob } from './new-job.ts';
import { cursor, digits, limit } from './page.ts';
import { partsOf } from './parts.ts';
import { JsonValue, moment, name } from './scalars.ts';

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

/** The name in the path of a schedule. */
export const ScheduleParams = z.object({
  // Its path is that of the preview of what has no name yet.
  name: name
    .refine((text) => text !== 'preview', 'must be another: that path shows what a definition would do')
    .describe('The name of the schedule; not `preview`.'),
});
export type ScheduleParams = z.output<typeof ScheduleParams>;

/** The query of `GET /v1/schedules`. */
export const ScheduleQuery = z.strictObject({
  state: z.enum(scheduleStates).optional().describe('Only schedules in this state.'),
  limit,
  cursor,
});
export type ScheduleQuery = z.output<typeof ScheduleQuery>;

/** The query of `GET /v1/schedules/{name}/runs`. */
export const RunQuery = z.strictObject({
  outcome: z.enum(slotOutcomes).optional().describe('Only slots with this outcome.'),
  after: moment.optional().describe('Only slots at this time or later.'),
  before: moment.optional().describe('Only slots before this time.'),
  limit,
  cursor,
});
export type RunQuery = z.output<typeof RunQuery>;

/** The body of `POST /v1/schedules/{name}/pause`. */
export const Pause = z
  .strictObject({
    reason: z.string().min(1).max(500).nullable().default(null).describe('Shown with the schedule.'),
  })
  .meta({ id: 'Pause', description: 'Why a schedule is paused.' });
export type Pause = z.output<typeof Pause>;

const time = z.iso.datetime();

/** A row of the ledger, as `domain/ledger.ts` writes it. */
export const Run = z
  .object({
    slot: time.describe('The moment the schedule names, by which the slot is known.'),
    due_at: time.describe('The slot with its jitter.'),
    decided_at: time.describe('When it was decided.'),
    fired_at: time.nullable().describe('When its job was made; null: it was skipped.'),
    lateness_ms: z.number().nullable().describe('From due to fired.'),
    outcome: z.enum(slotOutcomes),
    reason: z.enum(slotReasons).nullable().describe('Why it was skipped, or had to wait.'),
    job_id: z.string().nullable(),
    leader_term: z.string().nullable().describe('The term of the leader that decided; null: a caller did.'),
    through: time
      .nullable()
      .describe('The last slot of those this row stands for, where it stands for many that were skipped.'),
    slots: z.int().nullable().describe('How many slots the row stands for; null: more than were counted.'),
  })
  .meta({ id: 'Run', description: 'What became of a slot.' });

/** A page of the ledger. */
export const RunList = z
  .object({ items: z.array(Run), next_cursor: z.string().nullable() })
  .meta({ id: 'RunList', description: 'A page of the ledger, the newest slot first.' });

const shown = {
  cron: z.string().nullable(),
  timezone: z.string(),
  every_seconds: z.int().nullable(),
  jitter_seconds: z.int(),
  starts_at: time.nullable(),
  ends_at: time.nullable(),
  misfire: z.enum(misfires),
  max_lateness_seconds: z.int(),
  max_catch_up: z.int(),
  overlap: z.enum(overlaps),
  job: z
    .object({
      queue: z.string(),
      type: z.string(),
      priority: z.int(),
      max_attempts: z.int().optional(),
      timeout_seconds: z.int().optional(),
      max_age_seconds: z.int().optional(),
      backoff: z.looseObject({ strategy: z.string() }).optional(),
      tags: z.array(z.string()).optional(),
      target: z.object({ url: z.string(), method: z.string(), headers: z.array(z.string()) }).optional(),
      callback: z
        .object({ url: z.string(), events: z.array(z.string()), headers: z.array(z.string()) })
        .optional(),
      payload: JsonValue.optional().describe('Where the schedule is read alone, not in a list.'),
    })
    .describe('Of the headers of target and callback only the names are told.'),
};

/** The record of a schedule. */
export const Schedule = z
  .object({
    name: z.string(),
    state: z.enum(scheduleStates).describe('ended: there is no slot any more.'),
    ...shown,
    paused_at: time.nullable(),
    pause_reason: z.string().nullable(),
    next_slot: time.nullable(),
    next_due_at: time
      .nullable()
      .describe(
        'When the leader looks at it next: the next slot with its jitter, or sooner where something is owed or held.',
      ),
    held_slot: time.nullable().describe('The slot that waits for the end of the job before it.'),
    last: Run.nullable().describe('The newest row of the ledger.'),
    created_at: time,
    changed_at: time,
  })
  .meta({ id: 'Schedule', description: 'A schedule.' });

/** A page of schedules. */
export const ScheduleList = z
  .object({ items: z.array(Schedule), next_cursor: z.string().nullable() })
  .meta({ id: 'ScheduleList', description: 'A page of schedules, by name.' });

const forecast = {
  count: z.preprocess(digits, z.int().min(1).max(100).default(10)).describe('How many slots to show.'),
  from: moment.optional().describe('Slots after this time; absent: from now on.'),
};

/** The query of `GET /v1/schedules/{name}/preview`. */
export const ForecastQuery = z.strictObject(forecast);
export type ForecastQuery = z.output<typeof ForecastQuery>;

/** The query of `POST /v1/schedules/preview`. */
export const PreviewQuery = z.strictObject({
  ...forecast,
  name: name.optional().describe('The name it would have, by which `H` and jitter are chosen.'),
});
export type PreviewQuery = z.output<typeof PreviewQuery>;

/** The slots to come of a schedule. */
export const Forecast = z
  .object({
    slots: z.array(
      z.object({
        slot: time,
        due_at: time.describe('The slot with its jitter.'),
        local: z.string().describe('In the time zone of the schedule, without an offset.'),
        utc_offset: z.string(),
        note: z
          .enum(['gap', 'repeat_first', 'repeat_second'])
          .nullable()
          .describe(
            'gap: the local time does not exist that day, and this is the first moment after it. ' +
              'repeat_first, repeat_second: it comes twice, and this is which of the two.',
          ),
      }),
    ),
    is_last: z
      .boolean()
      .describe('Whether no slot comes after these; without a slot: the schedule has none left.'),
    clock_changes: z
      .array(z.object({ at: time, from_offset: z.string(), to_offset: z.string() }))
      .describe('When the clocks of the zone change up to the last of these slots.'),
  })
  .meta({ id: 'Forecast', description: 'When a schedule would fire.' });

/** The answer of `GET /v1/leader`. */
export const Leader = z
  .object({
    holder: z.string().nullable(),
    term: z.string().nullable().describe('Grows with every change of office.'),
    since: time.nullable(),
    age_seconds: z.int().nullable().describe('How long it has led.'),
    until: time.nullable(),
    left_ms: z.int().nullable().describe('What is left of the term.'),
  })
  .meta({ id: 'Leader', description: 'Who fires schedules; all null: nobody at present.' });
