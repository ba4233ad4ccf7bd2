// The contract of an explanation (docs/contract.md, Why).
// Next room: http/why.ts.
import { z } from 'zod';
import { jobStates } from '../../domain/job.ts';
import { causes } from '../../domain/why.ts';
import { name } from './scalars.ts';

const Reason = z.object({
  cause: z.enum(causes),
  detail: z.string().describe('What is so, for people.'),
  release: z.string().describe('What would end it.'),
  until: z.iso.datetime().optional().describe('When it ends by itself, where that is known.'),
  job_id: z.string().optional().describe('The job whose end it waits for.'),
  operation_id: z.string().optional().describe('The operation that holds it.'),
});

/** Why a job is where it is. */
export const Why = z
  .object({
    id: z.string(),
    state: z.enum(jobStates),
    terminal: z.boolean(),
    queue: name,
    type: name,
    cause: z.enum(causes).describe('The cause of the first reason.'),
    reasons: z.array(Reason).min(1).describe('All that hold at once, the decisive one first.'),
  })
  .meta({ id: 'Why', description: 'What a job waits for, and what would release it.' });
