// The contract of a batch: many jobs in one call (docs/contract.md, Batches).
// Next room: http/batch.ts.
import { z } from 'zod';
import { most_items } from '../body.ts';
import { Job } from './job.ts';
import { NewJob } from './new-job.ts';
import { Problem } from './problem.ts';

/** A job of a batch: like one that is submitted alone, with a key of its own where that is wished. */
export const BatchItem = NewJob.safeExtend({
  idempotency_key: z
    .string()
    .regex(/^[A-Za-z0-9._:~/+=-]{1,255}$/, 'must be 1 to 255 of A-Z a-z 0-9 . _ : ~ / + = -')
    .optional()
    .describe('Names this job alone, so that a repeat finds it, in whatever batch it comes.'),
}).meta({ id: 'BatchItem', description: 'A job of a batch.' });

export type BatchItem = z.output<typeof BatchItem>;

/** The body of `POST /v1/jobs/batch`. */
export const JobBatch = z
  .strictObject({
    jobs: z.array(BatchItem).min(1).max(most_items).describe('The jobs, 1 to 1000 of them.'),
    atomic: z
      .boolean()
      .default(true)
      .describe('true: all are stored or none. false: each for itself, and 207 tells of each.'),
  })
  .meta({ id: 'JobBatch', description: 'Jobs to run.' });

const location = z.string().describe('The status of the job, to be followed.');
const deduplicated = z
  .literal(true)
  .optional()
  .describe('The job of another request holds the unique key and is the answer.');

/** The 202 of a batch. */
export const Batched = z
  .object({
    jobs: z.array(
      z.union([Job.extend({ location, deduplicated }), z.object({ id: z.string(), location, deduplicated })]),
    ),
  })
  .meta({ id: 'Batched', description: 'The jobs that were stored, in the order of the request.' });

/** The 207 of a batch. */
export const BatchOutcome = z
  .object({
    items: z.array(
      z.object({
        index: z.int().describe('Place of the job in the request, from 0.'),
        status: z.int().describe('What a call for this job alone would have been answered.'),
        job: Job.extend({ location, deduplicated }).optional(),
        problem: Problem.optional(),
      }),
    ),
  })
  .meta({ id: 'BatchOutcome', description: 'What became of each job.' });
