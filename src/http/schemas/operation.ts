// The contract of operations and of the actions that wait for their phrase (docs/contract.md, Operations and Dangerous actions).
// Invariant: a member that means nothing for an action is refused, not passed over.
// Next room: http/operations.ts, http/bulk.ts, http/dangerous.ts.
import { z } from 'zod';
import { operationKinds, operationStates, waitingStates } from '../../domain/operation.ts';
import { LetterFilter } from './dead-letter.ts';
import { cursor, limit } from './page.ts';
import { moment, name } from './scalars.ts';

const storable = (text: string) => !text.includes('\0') && text.isWellFormed();
const word = z.string().min(1).max(63).refine(storable, 'holds characters that no tag can have');
const reason = z
  .string()
  .min(1)
  .max(500)
  .refine(storable, 'holds characters that cannot be kept')
  .nullable()
  .default(null)
  .describe('Why, for the audit.');
const most = z
  .int()
  .min(1)
  .max(1_000_000)
  .nullable()
  .default(null)
  .describe('No more than so many; null: all that fit.');

const jobFilter = {
  types: z.array(name).min(1).max(50).optional().describe('Only jobs of one of these types.'),
  tags: z.array(word).min(1).max(20).optional().describe('Only jobs with one of these tags.'),
  priorities: z
    .array(z.int().min(0).max(9))
    .min(1)
    .max(10)
    .optional()
    .describe('Only jobs of one of these priorities.'),
  created_after: moment.optional().describe('Only jobs made at this time or later.'),
  created_before: moment.optional().describe('Only jobs made before this time.'),
};

export const JobFilter = z.strictObject(jobFilter).meta({
  id: 'JobFilter',
  description: 'Which jobs: every member that is there must fit, a list by one of its values.',
});

/** The body of `POST /v1/dead-letters/redrive`. */
export const BulkRedrive = z
  .strictObject({
    // Required, so that what was meant for the query, or got lost, is not a redrive of everything.
    filter: LetterFilter.describe('Which; `{}`: all dead letters.'),
    limit: most,
    canary: z
      .int()
      .min(1)
      .max(10_000)
      .nullable()
      .default(null)
      .describe('After so many it pauses until it is resumed.'),
    rate_per_second: z
      .number()
      .min(0.1)
      .max(1_000)
      .nullable()
      .default(null)
      .describe('No more than so many in a second; null: as fast as it goes.'),
    queue: name.optional().describe('Where the repeats go; absent: where their jobs were.'),
    max_attempts: z.int().min(1).max(100).optional().describe('Of the repeats; absent: as before.'),
    dry_run: z.boolean().default(false).describe('Only say what would be met.'),
    reason,
  })
  .meta({ id: 'BulkRedrive', description: 'Which dead letters to redrive, and how carefully.' });
export type BulkRedrive = z.output<typeof BulkRedrive>;

/** The body of `POST /v1/queues/{queue}/reroute`. */
export const Reroute = z
  .strictObject({
    to: name.describe('The queue they go to; it exists once it is named.'),
    filter: JobFilter.default({}).describe('Absent: all that wait.'),
    states: z
      .array(z.enum(waitingStates))
      .min(1)
      .default([...waitingStates])
      .describe('Only jobs in these states.'),
    limit: most,
    reason,
  })
  .meta({ id: 'Reroute', description: 'Which jobs go to which queue.' });
export type Reroute = z.output<typeof Reroute>;

const dangerous = ['queue.purge', 'queue.delete_force', 'jobs.cancel_bulk', 'dead_letters.discard'] as const;

const ActionParams = z
  .strictObject({
    states: z
      .array(z.enum([...waitingStates, 'running']))
      .min(1)
      .optional()
      .describe('Only jobs in these states; absent: those that wait. running: of jobs.cancel_bulk only.'),
    filter: z
      .strictObject({ ...jobFilter, ...LetterFilter.shape })
      .omit({ queue: true })
      .default({})
      .describe('As of a reroute; of dead_letters.discard as of a redrive.'),
    limit: most,
    undo_seconds: z
      .int()
      .min(0)
      .max(86_400)
      .default(600)
      .describe('How long all can be put back before it is ended.'),
  })
  .meta({ id: 'ActionParams', description: 'What an action is to meet.' });

/** The body of `POST /v1/admin/actions`. */
export const NewAction = z
  .strictObject({
    action: z.enum(dangerous).describe('What is to be done.'),
    target: z
      .union([name, z.literal('*')])
      .describe('The queue it is done to; of dead_letters.discard also `*`: all.'),
    params: ActionParams.default({ filter: {}, limit: null, undo_seconds: 600 }),
    reason,
  })
  .superRefine(({ action, target, params }, context) => {
    const refuse = (path: string[], message: string) => context.addIssue({ code: 'custom', path, message });
    const isLetters = action === 'dead_letters.discard';
    if (target === '*' && !isLetters) refuse(['target'], 'must be the name of a queue; send one');
    for (const member of Object.keys(params.filter)) {
      const means = isLetters
        ? member in LetterFilter.shape
        : member in jobFilter && action !== 'queue.delete_force';
      if (!means) refuse(['params', 'filter', member], `means nothing for ${action}; leave it out`);
    }
    if (params.states !== undefined && (isLetters || action === 'queue.delete_force'))
      refuse(['params', 'states'], `means nothing for ${action}; leave it out`);
    if (params.states?.includes('running') && action === 'queue.purge')
      refuse(['params', 'states'], 'of a purge cannot be running; use jobs.cancel_bulk');
    if (params.limit !== null && action === 'queue.delete_force')
      refuse(['params', 'limit'], `means nothing for ${action}; leave it out`);
  })
  .meta({ id: 'NewAction', description: 'Something dangerous, to be confirmed.' });
export type NewAction = z.output<typeof NewAction>;

/** The body of `POST /v1/admin/actions/{id}/confirm`. */
export const Confirmation = z
  .strictObject({ phrase: z.string().min(1).max(200).describe('The confirm_phrase, as it is shown.') })
  .meta({ id: 'Confirmation', description: 'The phrase that confirms an action.' });
export type Confirmation = z.output<typeof Confirmation>;

const isId = (text: string) => /^[1-9]\d{0,17}$/.test(text);

export const OperationParams = z.object({
  id: z.string().refine(isId).describe('The id of the operation.'),
});
export type OperationParams = z.output<typeof OperationParams>;

export const ActionIdParams = z.object({
  id: z
    .string()
    .refine((text) => text.startsWith('act_') && isId(text.slice(4)))
    .describe('The id of the action.'),
});
export type ActionIdParams = z.output<typeof ActionIdParams>;

export const QueueParams = z.object({ queue: name.describe('The name of the queue.') });
export type QueueParams = z.output<typeof QueueParams>;

/** The query of `GET /v1/operations`. */
export const OperationQuery = z.strictObject({
  kind: z.enum(operationKinds).optional().describe('Only operations of this kind.'),
  state: z.enum(operationStates).optional().describe('Only operations in this state.'),
  limit,
  cursor,
});
export type OperationQuery = z.output<typeof OperationQuery>;

const outcomes = ['redriven', 'skipped', 'refused', 'discarded', 'put_back'] as const;

/** The query of `GET /v1/operations/{id}/items`. */
export const ItemQuery = z.strictObject({
  outcome: z.enum(outcomes).optional().describe('Only items that came to this.'),
  limit,
  cursor,
});
export type ItemQuery = z.output<typeof ItemQuery>;

/** The query of `GET /v1/admin/actions`. */
export const ActionQuery = z.strictObject({ limit, cursor });
export type ActionQuery = z.output<typeof ActionQuery>;

const time = z.iso.datetime();

const extent = {
  jobs: z.int().describe('That wait, or are dead.'),
  at_least: z.boolean().describe('Whether there may be more: counting stopped there.'),
  oldest: time.nullable(),
};

const Extent = z
  .object({
    ...extent,
    running: z
      .int()
      .optional()
      .describe('That run and would be asked to stop; only where `states` has running.'),
  })
  .meta({
    id: 'Extent',
    description: 'How many jobs something concerns, and since when the oldest waits or is dead.',
  });

const note = z.string().nullable().describe('Says where nothing fits; null: something does.');

export const Operation = z
  .object({
    id: z.string(),
    kind: z.enum(operationKinds),
    target: z.string().describe('The queue; `*`: any.'),
    params: z.looseObject({}),
    state: z.enum(operationStates),
    phase: z.string().nullable().describe('What its next step does; null: it is over.'),
    reason: z.string().nullable(),
    actor: z.string(),
    pause_reason: z.string().nullable().describe('canary: the first few are done; resume it.'),
    error: z.string().nullable().describe('Why the last step failed; it is tried again.'),
    expected: Extent.describe('What it was to meet when it was begun.'),
    matched: z.int().describe('How many jobs it has met.'),
    counts: z.record(z.string(), z.int()).describe('What became of them.'),
    undo_until: time.nullable().describe('Until when all can be put back.'),
    created_at: time,
    started_at: time.nullable(),
    finished_at: time.nullable(),
    note,
  })
  .meta({ id: 'Operation', description: 'What an operator does to many jobs at once.' });

export const OperationList = z
  .object({ items: z.array(Operation), next_cursor: z.string().nullable() })
  .meta({ id: 'OperationList', description: 'A page of operations, the newest first.' });

export const OperationItemList = z
  .object({
    items: z.array(
      z.object({
        job_id: z.string(),
        outcome: z.enum(outcomes),
        next_id: z.string().nullable().describe('The job that repeats it.'),
        at: time,
      }),
    ),
    next_cursor: z.string().nullable(),
  })
  .meta({ id: 'OperationItemList', description: 'What became of dead letters, by job.' });

export const RedrivePreview = z
  .object({
    dry_run: z.literal(true),
    ...extent,
    sample: z.array(z.string()).describe('Ids of the first of them.'),
  })
  .meta({ id: 'RedrivePreview', description: 'What a redrive would meet.' });

export const Action = z
  .object({
    id: z.string(),
    action: z.enum(dangerous),
    target: z.string(),
    params: z.looseObject({}),
    reason: z.string().nullable(),
    actor: z.string(),
    state: z.enum(['pending', 'confirmed', 'withdrawn', 'expired']),
    impact: Extent,
    confirm_phrase: z.string().describe('To be typed to confirm it.'),
    operation: z.string().nullable().describe('The operation that was begun.'),
    created_at: time,
    expires_at: time,
    note,
  })
  .meta({ id: 'Action', description: 'Something dangerous that waits until its phrase is typed.' });

export const ActionList = z
  .object({ items: z.array(Action), next_cursor: z.string().nullable() })
  .meta({ id: 'ActionList', description: 'A page of actions, the newest first.' });
