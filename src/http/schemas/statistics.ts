// What is asked and answered of the statistics of a queue.
// Next room: ../queue-statistics.ts.
import { z } from 'zod';
import { happenings, keptStates } from '../../domain/tally.ts';
import { moment, name } from './scalars.ts';

const count = z.number();
const times = (description: string) =>
  z
    .object({
      p50: z.number().nullable(),
      p95: z.number().nullable(),
      p99: z.number().nullable(),
      count: z.int().describe('How many there were within the window.'),
      window_seconds: z.int(),
    })
    .describe(`${description} At most 9.1 % beside the truth; null: there was none.`);

/** What is told of a queue at present. */
export const QueueStats = z
  .object({
    depth: z
      .object(Object.fromEntries(keptStates.map((state) => [state, count])) as Record<string, z.ZodNumber>)
      .describe('Open jobs by state, and dead letters, a second old at most.'),
    oldest_age_ms: z.number().nullable().describe('For how long the oldest ready job has been ready.'),
    rate_in: count.describe('Jobs that arrived each second.'),
    rate_out: count.describe('Jobs that ended each second.'),
    rate_window_seconds: z
      .int()
      .describe(
        'Over how long that was taken: 5, 15 or 60 s, the shortest in which 30 jobs ended, or would have at the rate of the last minute.',
      ),
    wait_ms: times('From when a job was due to its start.'),
    run_ms: times('From the start of an attempt to its end.'),
  })
  .meta({ id: 'QueueStats', description: 'What a queue, or a type in it, holds and does at present.' });

/** The query of `GET /v1/queues/{queue}/stats`. */
export const StatsQuery = z.strictObject({ type: name.optional().describe('This type alone.') });
export type StatsQuery = z.output<typeof StatsQuery>;

/** The query of `GET /v1/queues/{queue}/latency`. */
export const LatencyQuery = z.strictObject({
  from: moment.optional().describe('From when; default: an hour before `to`. Cut to the full minute.'),
  to: moment.optional().describe('Until when, not included; default: now.'),
  step: z.coerce
    .number()
    .int()
    .min(60)
    .max(86_400)
    .multipleOf(60, 'must be a multiple of 60')
    .default(60)
    .describe('Length of a column, in seconds.'),
  type: name.optional().describe('This type alone.'),
});
export type LatencyQuery = z.output<typeof LatencyQuery>;

const cells = z.array(z.tuple([z.number(), z.int()]));

/** What happened over time. */
export const LatencyMap = z
  .object({
    queue: z.string(),
    type: z.string().nullable(),
    from: z.iso.datetime(),
    to: z.iso.datetime(),
    step_seconds: z.int(),
    columns: z.array(
      z.object({
        at: z.iso.datetime(),
        ...(Object.fromEntries(happenings.map((what) => [what, z.int()])) as Record<string, z.ZodInt>),
        wait_ms: cells.describe('Pairs: at most so many ms, how often.'),
        run_ms: cells.describe('The same of attempts that succeeded.'),
        failed_ms: cells.describe('The same of attempts that failed.'),
      }),
    ),
  })
  .meta({
    id: 'LatencyMap',
    description: 'What happened in a queue, in columns of time; one in which nothing happened is left out.',
  });
