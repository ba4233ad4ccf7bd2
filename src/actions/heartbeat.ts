// Keeps a lease: for pull workers one start at a time, for handlers all leases of the process in one statement.
// Invariant: `until` counts from now and never passes the job's own deadline by more than the 2 s in which its holder can
// report the timeout itself.
// Next room: store/claims.ts.
import type { Start } from '../domain/start.ts';
import { extendLeases, heartbeat } from '../store/claims.ts';
import type { Pool } from '../store/db.ts';

export interface Beat {
  until: Date;
  cancel_requested: boolean;
}

/** Extends the lease of a start by `seconds` from now; null = the lease is lost or the start has ended. */
export async function beat(db: Pool, start: Start, seconds: number): Promise<Beat | null> {
  const row = await db.maybeOne(heartbeat, [[start.lease], [start.job_id], [start.epoch], seconds]);
  return row === undefined ? null : { until: row.until, cancel_requested: row.cancel_requested };
}

/** Extends whole leases; answers with the ones that still stand and the jobs in them that were asked to stop. */
export async function beatAll(
  db: Pool,
  leases: readonly string[],
  seconds: number,
): Promise<Map<string, string[]>> {
  const rows = await db.many(extendLeases, [leases, seconds]);
  return new Map(rows.map((row) => [row.lease, row.cancels ?? []]));
}
