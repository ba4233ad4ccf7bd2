// The contract of a schedule that is there: its record, its ledger, its slots to come, and who fires it (docs/contract.md,
// Schedules).
// Next room: definition.ts, what a caller may say of one; domain/schedule-record.ts, which writes what is told.
import { z } from 'zod';
import { misfires, overlaps, slotOutcomes, slotReasons } from '../../domain/schedule.ts';
import { scheduleStates } from '../../domain/schedule-record.ts';
import { shownUnique } from './job.ts';
import { cursor, digits, limit } from './page.ts';
import { JsonValue, moment, name } from './scalars.ts';

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

/** A row of the ledger, as `domain/schedule-record.ts` writes it. */
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
      unique: shownUnique.optional(),
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
