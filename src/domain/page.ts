// A page of any list: where it begins, how many rows it may look at, and where the next one goes on.
// Invariants: a walk meets every row that fits, because a page without a cursor has seen the end; the work of one page is
// bounded, so it may be short.
// Next room: cursor.ts, which seals the place; actions/list.ts and all other lists, which walk.
import { issueCursor, readCursor } from './cursor.ts';
import { Problem } from './problem.ts';

/** Rows one page looks at, at most, where not all of them fit. */
export const most_looked = 1_000;

/** How many rows a page looks at: one more than it shows, which tells that there are more, or many where some are sifted out. */
export function looksAt(limit: number, isSifted: boolean): number {
  return isSifted ? Math.max(limit + 1, most_looked) : limit + 1;
}

/** The key behind which a page begins: that of its cursor, else `start`; throws where the cursor is not of this question. */
export function pageFrom(
  cursor: string | undefined,
  start: readonly string[],
  question: string,
  secret: Buffer,
): readonly string[] {
  const key = cursor === undefined ? start : readCursor(cursor, question, secret);
  if (key !== null) return key;
  throw new Problem('cursor-invalid', {
    detail: 'the cursor is not one of this list; take it from next_cursor and send the same filters with it',
  });
}

/** The cursor of the next page, which begins behind a key; null: there is none. */
export function nextPage(
  key: readonly string[] | null | undefined,
  question: string,
  secret: Buffer,
): string | null {
  return key == null ? null : issueCursor(key, question, secret);
}

/** What of the rows that were walked a page shows, and the row behind which the next begins; undefined: the list ends. */
export function cut<Row>(
  walked: readonly Row[],
  looked: number,
  limit: number,
  fits: (row: Row) => boolean = () => true,
): { shown: Row[]; last: Row | undefined } {
  const fitting = walked.filter(fits);
  const shown = fitting.slice(0, limit);
  const last = fitting.length > limit ? shown.at(-1) : walked.length === looked ? walked.at(-1) : undefined;
  return { shown, last };
}
