// Shows the ledger of a schedule, page by page: what became of its slots.
// Invariant: a walk meets every row that fits, the newest slot first; the work of one page is bounded, so a page may be
// short, and only a missing cursor is the end.
// Next room: store/schedules.ts `walkSlots`; schedules.ts.
import { issueCursor, readCursor } from '../domain/cursor.ts';
import type { SlotOutcome } from '../domain/schedule.ts';
import type { RunFacts } from '../domain/schedule-record.ts';
import type { Pool } from '../store/db.ts';
import { scheduleId, walkSlots } from '../store/schedules.ts';
import { foreignCursor, most_looked, tenant } from './schedules.ts';

/** The question: every member that is there must fit. Times are RFC 3339 text. */
export interface RunFilter {
  outcome?: SlotOutcome | undefined;
  /** At this moment or later. */
  after?: string | undefined;
  /** Before this moment. */
  before?: string | undefined;
}

export interface RunPage {
  items: RunFacts[];
  next_cursor: string | null;
}

/** A page of a schedule's ledger; undefined: there is no such schedule. */
export type Runs = (
  name: string,
  filter: RunFilter,
  limit: number,
  cursor?: string,
) => Promise<RunPage | undefined>;

export function running({ db, secret }: { db: Pool; secret: Buffer }): Runs {
  return async (name, { outcome, after, before }, limit, cursor) => {
    const schedule = await db.maybeOne(scheduleId, [tenant, name]);
    if (schedule === undefined) return undefined;
    const question = JSON.stringify([
      'runs',
      schedule.id,
      ...[outcome, after, before].map((one) => one ?? null),
    ]);
    const from = cursor === undefined ? [before ?? 'infinity'] : readCursor(cursor, question, secret);
    if (from === null) throw foreignCursor();
    const looked = outcome === undefined ? limit + 1 : Math.max(limit + 1, most_looked);
    const walked = await db.many(walkSlots, [schedule.id, from[0], after ?? '-infinity', looked]);
    const fitting = walked.filter((run) => outcome === undefined || run.outcome === outcome);
    const items = fitting.slice(0, limit);
    const last = fitting.length > limit ? items.at(-1) : walked.length === looked ? walked.at(-1) : undefined;
    const next_cursor = last === undefined ? null : issueCursor([last.slot.toISOString()], question, secret);
    return { items, next_cursor };
  };
}
