// The contract of a queue: what can be set of it, its levers and its record (docs/contract.md, Queues).
// Next room: http/queues.ts; domain/queue-settings.ts, what can be set.
import { z } from 'zod';
import { queueStates } from '../../domain/queue-record.ts';
import { QueueSettings } from '../../domain/queue-settings.ts';
import { cursor, limit } from './page.ts';
import { partsOf } from './parts.ts';
import { moment, name } from './scalars.ts';
import { QueueStats } from './statistics.ts';

/** The name in the path of a queue. */
export const QueueParams = z.object({ queue: name.describe('The name of the queue.') });
export type QueueParams = z.output<typeof QueueParams>;

/** The query of `GET /v1/queues`. */
export const QueueQuery = z.strictObject({ limit, cursor });
export type QueueQuery = z.output<typeof QueueQuery>;

/** The body of `PATCH /v1/queues/{queue}`: the same members, each of which may be left out, or null for its default. */
export const QueuePatch = z
  .strictObject(partsOf(QueueSettings.shape))
  .refine((patch) => Object.keys(patch).length > 0, 'names nothing to change; send at least one member')
  .meta({ id: 'QueuePatch', description: 'What is to change of the settings of a queue.' });
export type QueuePatch = z.input<typeof QueuePatch>;

const types = z
  .array(name)
  .min(1)
  .max(100)
  .optional()
  .describe('Only jobs of these types, also of types nobody has submitted yet; absent: the whole queue.');

const reason = z
  .string()
  .min(1)
  .max(500)
  .refine((text) => !text.includes('\0') && text.isWellFormed(), 'holds characters that cannot be kept')
  .nullable()
  .optional()
  .describe('Shown with the queue, and kept in the audit; absent: as it stands.');

/** The body of `POST /v1/queues/{queue}/pause`. */
export const QueuePause = z
  .strictObject({
    types,
    until: moment
      .nullable()
      .optional()
      .describe('It ends by itself then; null: it does not; absent: as it stands.'),
    reason,
  })
  .meta({ id: 'QueuePause', description: 'What is paused, until when, and why.' });
export type QueuePause = z.output<typeof QueuePause>;

/** The body of `POST /v1/queues/{queue}/resume`. */
export const QueueResume = z
  .strictObject({
    types: types.describe('Only the pauses of these types; absent: pause and drain of the queue.'),
  })
  .meta({ id: 'QueueResume', description: 'What is resumed.' });
export type QueueResume = z.output<typeof QueueResume>;

/** The body of `POST /v1/queues/{queue}/drain`. */
export const QueueDrain = z
  .strictObject({
    deadline: moment
      .nullable()
      .optional()
      .describe(
        'When it should be empty; after that the drain goes on and the record says `overdue`. Absent: as it stands.',
      ),
    reason,
  })
  .meta({ id: 'QueueDrain', description: 'By when a queue is to be empty, and why.' });
export type QueueDrain = z.output<typeof QueueDrain>;

const time = z.iso.datetime();

const policy = {
  max_attempts: z.int().nullable(),
  timeout_seconds: z.int().nullable(),
  backoff: z.looseObject({ strategy: z.string() }).nullable(),
  max_age_seconds: z.int().nullable(),
};

/** Settings as they are told. */
const shown = {
  sync: z.enum(['allowed', 'async_only', 'sync_only']),
  default_wait_seconds: z.number().nullable(),
  require_idempotency_key: z.boolean(),
  refuse_late_waits: z.boolean(),
  max_depth: z.int().nullable(),
  max_oldest_age_seconds: z.int().nullable(),
  critical_priority: z.int().nullable(),
  defaults: z.object(policy),
  types: z.record(
    z.string(),
    z.object({ ...policy, outcome: z.enum(['none', 'result', 'resource']).nullable() }),
  ),
};

/** The record of a queue. */
export const Queue = z
  .object({
    name: z.string(),
    state: z
      .enum(queueStates)
      .describe('paused: nothing of it starts. draining: it takes no jobs; it may be paused as well.'),
    ...shown,
    pause: z
      .object({ since: time, until: time.nullable(), reason: z.string().nullable() })
      .nullable()
      .describe('The pause of the whole queue; `running` says what still runs.'),
    paused_types: z
      .array(
        z.object({ type: z.string(), since: time, until: time.nullable(), reason: z.string().nullable() }),
      )
      .describe('Types that are paused on their own.'),
    drain: z
      .object({
        since: time,
        deadline: time.nullable(),
        reason: z.string().nullable(),
        done: z.boolean().describe('Whether no job is open any more.'),
        overdue: z.boolean().describe('Whether the deadline has passed and jobs are still open.'),
      })
      .nullable(),
    running: z.int().describe('Jobs that run at present.'),
    stats: QueueStats.optional().describe('Only where one queue is read.'),
    created_at: time.nullable().describe('Null: nobody has set anything of it.'),
    changed_at: time.nullable(),
  })
  .meta({ id: 'Queue', description: 'A queue.' });

/** What a lever answers. */
export const PulledQueue = Queue.extend({
  changed: z.boolean().describe('Whether the lever changed anything; false: it was so already.'),
}).meta({ id: 'PulledQueue', description: 'A queue after one of its levers was pulled.' });

/** A page of queues. */
export const QueueList = z
  .object({ items: z.array(Queue), next_cursor: z.string().nullable() })
  .meta({ id: 'QueueList', description: 'A page of queues, by name.' });
