// The book of what operators do: one row for each lever that was pulled, written in the transaction of the lever.
// Invariants: rows are only ever added (a trigger refuses all else); a lever without its row, or a row without its lever,
// cannot be committed.
// Next room: actions/audit.ts, which reads it.
import type { By } from '../domain/actor.ts';
import type { Db } from './db.ts';
import { sql } from './sql.ts';

/** What was done. */
export interface Deed {
  /** The noun and the verb, such as `queue.pause`. */
  action: `${string}.${string}`;
  /** What it was done to: the name of a queue, the id of a job or of an operation. */
  target: string;
  reason?: string | null;
  /** What else is worth knowing: before and after, counts. Never payloads or secrets. */
  facts?: object;
}

/** A row of the audit. */
export interface AuditRow {
  id: string;
  at: Date;
  actor: string;
  request_id: string;
  action: string;
  target: string;
  reason: string | null;
  facts: object;
}

/** Writes down what is done in this transaction. */
export async function audit(tx: Db, by: By, { action, target, reason, facts }: Deed): Promise<void> {
  const params = [by.actor, by.request_id, action, target, reason ?? null, JSON.stringify(facts ?? {})];
  await tx.many(insertAudit, params);
}

export const insertAudit = sql<never>`
insert into errand.audit (actor, request_id, action, target, reason, facts) values ($1, $2, $3, $4, $5, $6::jsonb)`;

/** Rows, the newest first: $1 tenant, $2 moment and $3 id behind which to begin, $4 not before, $5 how many. */
export const walkAudit = sql<AuditRow & { key: string[] }>`
select id, at, actor, request_id, action, target, reason, facts,
  array[to_char(at at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"'), id::text] key
from errand.audit
where tenant = $1 and (at, id) < ($2::timestamptz, $3::bigint) and at >= $4::timestamptz
order by at desc, id desc limit $5`;
