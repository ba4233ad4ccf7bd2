// Shows the ledger of a schedule, page by page: what became of its slots.
// Invariant: a walk meets every row that fits, the newest slot first; the work of one page is bounded, so a page may be
// short, and only a missing cursor is the end.
// Next room: store/schedules.ts `walkSlots`; schedules.ts.
import { cut, looksAt, nextPage, pageFrom } from '../domain/page.ts';
import type { SlotOutcome } from '../domain/schedule.ts';
import type { RunFacts } from '../domain/schedule-record.ts';
import { tenant } from '../domain/tenant.ts';
import type { Pool } from '../store/db.ts';
import { scheduleId, walkSlots } from '../store/schedules.ts';

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
    const from = pageFrom(cursor, [before ?? 'infinity'], question, secret);
    const looked = looksAt(limit, outcome !== undefined);
    const walked = await db.many(walkSlots, [schedule.id, from[0], after ?? '-infinity', looked]);
    const isAsked = (run: (typeof walked)[number]) => outcome === undefined || run.outcome === outcome;
    const { shown, last } = cut(walked, looked, limit, isAsked);
    return { items: shown, next_cursor: nextPage(last && [last.slot.toISOString()], question, secret) };
  };
}
