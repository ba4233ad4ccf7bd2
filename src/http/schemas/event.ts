// The contract of watching a job: where to begin, and what a page of events holds (docs/contract.md, Events).
// Next room: http/events.ts.
import { z } from 'zod';
import { eventIdPattern } from '../../domain/timeline.ts';

/** `?after=…&limit=…`. */
export const EventQuery = z.strictObject({
  after: z
    .string()
    .regex(eventIdPattern, 'must be the id of an event, as it was received')
    .optional()
    .describe('Only events after this one.'),
  limit: z.coerce
    .number()
    .int()
    .min(1)
    .max(200)
    .default(100)
    .describe('Most events of a page; a stream has no pages.'),
});

/** `?after=…&limit=…`, parsed. */
export type EventQuery = z.output<typeof EventQuery>;

/** What has happened to a job. */
export const EventPage = z
  .object({
    items: z.array(
      z.object({
        id: z.string().describe('Its place in the order of events.'),
        event: z
          .enum(['state', 'progress', 'checkpoint', 'done'])
          .describe('New ones may be added within v1: pass over what you do not know.'),
        data: z.looseObject({ epoch: z.int(), at: z.iso.datetime() }),
      }),
    ),
    next_cursor: z
      .string()
      .nullable()
      .describe('For `after`, where there is more already; null: nothing more now.'),
    last_event_id: z
      .string()
      .describe('For `after` in any case: the last event of this page, or the one you named.'),
    terminal: z
      .boolean()
      .describe('Whether the job has ended: with `next_cursor` null nothing will ever follow.'),
  })
  .meta({ id: 'EventPage', description: 'What has happened to a job, oldest first.' });
