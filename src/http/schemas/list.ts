// The contract of a list: what can be asked for and the form of a page (docs/contract.md, Lists).
// Next room: http/list.ts.
import { z } from 'zod';
import { jobStates } from '../../domain/job.ts';
import { errorClasses } from '../../domain/outcome.ts';
import { Job } from './job.ts';
import { cursor, limit } from './page.ts';
import { moment, name } from './scalars.ts';

const storable = (text: string) => !text.includes('\0') && text.isWellFormed();

/** The query of `GET /v1/jobs`. */
export const ListQuery = z.strictObject({
  queue: name.optional().describe('Only jobs of this queue.'),
  type: name.optional().describe('Only jobs of this type.'),
  state: z.enum(jobStates).optional().describe('Only jobs in this state; it also decides the order.'),
  tag: z
    .string()
    .min(1)
    .max(63)
    .refine(storable, { message: 'holds characters that no tag can have' })
    .optional()
    .describe('Only jobs with this tag.'),
  error_class: z
    .enum(errorClasses)
    .optional()
    .describe('Only jobs whose error, or that of the last attempt, has this class.'),
  created_after: moment.optional().describe('Only jobs made at this time or later.'),
  created_before: moment.optional().describe('Only jobs made before this time.'),
  limit,
  cursor,
});

/** A validated query. */
export type ListQuery = z.output<typeof ListQuery>;

/** A page of a list. */
export const JobList = z
  .object({
    items: z.array(Job),
    next_cursor: z
      .string()
      .nullable()
      .describe('The cursor of the next page; null at the end, and only there.'),
  })
  .meta({ id: 'JobList', description: 'A page of jobs.' });
