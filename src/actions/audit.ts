// Shows what operators did, page by page, the newest first.
// Invariant: a walk meets every row that fits and was there when it began; the work of one page is bounded, so a page may be
// short, and only a missing cursor is the end.
// Next room: store/audit.ts, which also says how a row comes to be.
import { cut, looksAt, nextPage, pageFrom } from '../domain/page.ts';
import { tenant } from '../domain/tenant.ts';
import { type AuditRow, walkAudit } from '../store/audit.ts';
import type { Pool } from '../store/db.ts';

/** The question: every member that is there must fit. Times are RFC 3339 text. */
export interface AuditFilter {
  actor?: string | undefined;
  action?: string | undefined;
  target?: string | undefined;
  /** At this moment or later. */
  from?: string | undefined;
  /** Before this moment. */
  to?: string | undefined;
}

/** A page of the audit; `next_cursor` null = there is no more. */
export interface AuditPage {
  items: AuditRow[];
  next_cursor: string | null;
}

export type Audits = (filter: AuditFilter, limit: number, cursor?: string) => Promise<AuditPage>;

/** Every id is below it. */
const aboveAll = '9223372036854775807';

export function auditing({ db, secret }: { db: Pool; secret: Buffer }): Audits {
  return async ({ actor, action, target, from, to }, limit, cursor) => {
    const question = JSON.stringify([
      'audit',
      tenant,
      ...[actor, action, target, from, to].map((one) => one ?? null),
    ]);
    // Before a moment is behind the row with the lowest id of that moment.
    const start = to === undefined ? ['infinity', aboveAll] : [to, '0'];
    const behind = pageFrom(cursor, start, question, secret);
    const asked = { actor, action, target };
    const isSifted = Object.values(asked).some((one) => one !== undefined);
    const looked = looksAt(limit, isSifted);
    const walked = await db.many(walkAudit, [tenant, ...behind, from ?? '-infinity', looked]);
    const { shown, last } = cut(walked, looked, limit, (row) => fits(row, asked));
    return {
      items: shown.map(({ key: _, ...row }) => row),
      next_cursor: nextPage(last?.key, question, secret),
    };
  };
}

function fits(row: AuditRow, asked: Pick<AuditFilter, 'actor' | 'action' | 'target'>): boolean {
  return Object.entries(asked).every(
    ([member, value]) => value === undefined || row[member as keyof typeof asked] === value,
  );
}
