// The contract of an error: RFC 9457 with our members (docs/contract.md, Errors).
// Next room: http/problem.ts, which writes it.
import { z } from 'zod';
import { jobStates } from '../../domain/job.ts';
import { problemSlugs } from '../../domain/problems.ts';

/** Every error of this API. */
export const Problem = z
  .object({
    type: z.string().describe('Path of a page about it.'),
    title: z.string(),
    status: z.int(),
    detail: z.string().describe('What happened here and what to do about it.'),
    instance: z.string().optional(),
    code: z.enum(problemSlugs() as [string, ...string[]]).describe('The name programs go by.'),
    request_id: z.string(),
    retryable: z.boolean().describe('Whether the same request may succeed later.'),
    errors: z
      .array(
        z.object({
          pointer: z.string().describe('JSON pointer as a URI fragment (RFC 6901).'),
          code: z.string(),
          detail: z.string(),
        }),
      )
      .optional(),
    job: z
      .looseObject({ id: z.string(), state: z.enum(jobStates) })
      .optional()
      .describe('The job it is about.'),
    executed: z
      .union([z.literal(false), z.enum(['in_progress', 'pending'])])
      .optional()
      .describe('After a wait that ran out: false = cancelled and never run.'),
    waited_ms: z.number().optional(),
    reason: z.string().optional(),
  })
  .meta({ id: 'Problem', description: 'An error (RFC 9457).' });
