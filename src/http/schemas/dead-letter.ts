// The contract of dead letters: what can be asked for, the form of a letter and of a group (docs/contract.md, Dead letters).
// Next room: http/dead-letters.ts.
import { z } from 'zod';
import { errorClasses, errorSources } from '../../domain/outcome.ts';
import { Attempt, Job } from './job.ts';
import { ListQuery } from './list.ts';
import { cursor, digits, limit } from './page.ts';
import { moment, name } from './scalars.ts';

/** Which letters: the filters of the list, and of whatever is done to many of them. */
export const LetterFilter = z
  .strictObject({
    queue: name.optional().describe('Only letters of this queue.'),
    type: name.optional().describe('Only letters of this type.'),
    error_class: z.enum(errorClasses).optional().describe('Only what died of this class.'),
    source: z.enum(errorSources).optional().describe('Only what this reporter said of.'),
    http_status: z
      .preprocess(digits, z.int().min(100).max(599).optional())
      .describe('Only what died of this status of a target.'),
    fingerprint: z
      .string()
      .regex(/^[0-9a-f]{16}$/, 'must be 16 hex digits, as a letter has them')
      .optional()
      .describe('Only what died of this cause.'),
    tag: ListQuery.shape.tag,
    died_after: moment.optional().describe('Only what died at this time or later.'),
    died_before: moment.optional().describe('Only what died before this time.'),
  })
  .meta({ id: 'LetterFilter', description: 'Which dead letters; all members that are there must fit.' });

/** The query of `GET /v1/dead-letters`. */
export const LetterQuery = z
  .strictObject({
    ...LetterFilter.shape,
    group_by: z.enum(['fingerprint']).optional().describe('Answer groups of one cause instead of letters.'),
    limit,
    cursor,
  })
  .refine((query) => query.group_by === undefined || query.cursor === undefined, {
    path: ['cursor'],
    message: 'does not go together with group_by, whose answer has one page',
  });
export type LetterQuery = z.output<typeof LetterQuery>;

const time = z.iso.datetime();
const cause = {
  class: z.enum(errorClasses).nullable(),
  source: z.enum(errorSources).nullable(),
  http_status: z.int().nullable(),
  fingerprint: z
    .string()
    .nullable()
    .describe('The same for failures of one cause; null: it died before there were any.'),
};

/** A dead letter in the list. */
export const DeadLetter = z
  .object({
    job_id: z.string(),
    queue: z.string(),
    type: z.string(),
    died_at: time,
    ...cause,
    detail: z.string().nullable(),
    attempt: z.int().describe('Attempts it had.'),
    max_attempts: z.int(),
    epoch: z.int(),
    created_at: time,
    tags: z.array(z.string()),
  })
  .meta({ id: 'DeadLetter', description: 'A job that died and about which nobody has decided yet.' });

/** Letters of one cause. */
export const DeadLetterGroup = z
  .object({
    ...cause,
    type: z.string(),
    queues: z.array(z.string()),
    count: z.int(),
    first_died_at: time,
    last_died_at: time,
    sample: z
      .object({ job_id: z.string(), detail: z.string().nullable() })
      .describe('The latest of them, with its message as it was.'),
  })
  .meta({ id: 'DeadLetterGroup', description: 'Dead letters of one cause.' });

/** A page of letters. */
export const DeadLetterList = z
  .object({ items: z.array(DeadLetter), next_cursor: z.string().nullable() })
  .meta({ id: 'DeadLetterList', description: 'A page of dead letters, the latest death first.' });

/** The groups of all letters that fit. */
export const DeadLetterGroups = z
  .object({
    groups: z.array(DeadLetterGroup),
    looked: z.int().describe('Letters that were looked at, the latest deaths first.'),
    exact: z.boolean().describe('Whether these were all letters, and these are all groups.'),
  })
  .meta({ id: 'DeadLetterGroups', description: 'Dead letters by cause, the largest group first.' });

/** A dead job, and what was decided about it. */
export const DeadJob = z
  .object({
    job: Job,
    attempts: z.array(Attempt).describe('Newest first, at most 100.'),
    listed: z.boolean().describe('Whether it is in the list of dead letters.'),
    discarded: z.boolean(),
    redriven_as: z.string().nullable().describe('The job that repeats it.'),
  })
  .meta({ id: 'DeadJob', description: 'A dead job with all its attempts, and what was decided about it.' });

/** `?include=payload`. */
export const DeadJobQuery = z.strictObject({
  include: z.enum(['payload']).optional().describe('`payload`: what `job` is to have besides.'),
});
export type DeadJobQuery = z.output<typeof DeadJobQuery>;

const reason = z
  .string()
  .min(1)
  .max(1_000)
  .refine((text) => !text.includes('\0') && text.isWellFormed(), 'holds characters that cannot be kept')
  .optional()
  .describe('Why, for the audit.');

/** The body of a redrive. */
export const Redrive = z
  .strictObject({
    queue: name.optional().describe('Queue of the new job; absent: the same.'),
    run_at: moment.optional().describe('Not before this time; absent: at once.'),
    max_attempts: z.int().min(1).max(100).optional().describe('Absent: as many as it had.'),
    reason,
  })
  .meta({ id: 'Redrive', description: 'What the new job is to have that the dead one had not.' });
export type Redrive = z.output<typeof Redrive>;

/** The body of a discard. */
export const Discard = z
  .strictObject({ reason })
  .meta({ id: 'Discard', description: 'Why a letter is taken out of the list.' });
export type Discard = z.output<typeof Discard>;
