// What the query of every list has: how many, and where to go on.
// Next room: list.ts, schedule.ts and worker.ts, whose lists have it.
import { z } from 'zod';

/** A query is text: digits become a number, and anything else is left to be refused. */
export const digits = (text: unknown) =>
  typeof text === 'string' && /^\d{1,9}$/.test(text) ? Number(text) : text;

/** Most items of a page. */
export const limit = z
  .preprocess(digits, z.int().min(1).max(200).default(50))
  .describe('Most items on a page; there may be fewer although there is more.');

/** Where a page begins. */
export const cursor = z
  .string()
  .optional()
  .describe('Where to go on: `next_cursor` of a page of the same filters.');
