// Keeps leases: for pull workers start by start, gathered into few statements; for handlers all leases of the process in one.
// Invariant: `until` counts from now and never passes the job's own deadline by more than the 2 s in which its holder can
// report the timeout itself.
// Next room: store/claims.ts.
import type { Start } from '../domain/start.ts';
import { extendLeases, heartbeat } from '../store/claims.ts';
import type { Pool } from '../store/db.ts';
import { Flush } from '../store/flush.ts';
import { holder_patience_ms } from '../store/line.ts';
import { numbers } from '../store/sql.ts';

export interface Beat {
  until: Date;
  cancel_requested: boolean;
}

/** Extends the lease of a start by `seconds` from now; null = the lease is lost or the start has ended. */
export type Heartbeat = (start: Start, seconds: number) => Promise<Beat | null>;

interface Beating {
  start: Start;
  seconds: number;
}

export function beating(db: Pool): Heartbeat {
  const flush = new Flush<Beating, Beat | null>({
    run: (beats) => beatEach(db, beats),
    inFlight: 2,
    max: 1_000,
    gapMs: 0,
    maxWaiting: 50_000,
    patienceMs: holder_patience_ms,
  });
  return (start, seconds) => flush.add({ start, seconds });
}

async function beatEach(db: Pool, beats: readonly Beating[]): Promise<(Beat | null)[]> {
  const wished = new Map<string, number>();
  for (const { start, seconds } of beats)
    wished.set(start.lease, Math.max(seconds, wished.get(start.lease) ?? 0));
  const rows = await db.many(heartbeat, [
    numbers([...wished.keys()]),
    numbers([...wished.values()]),
    numbers(beats.map(({ start }) => start.job_id)),
    numbers(beats.map(({ start }) => start.epoch)),
  ]);
  const standing = new Map(rows.flatMap((row) => (row.lease === null ? [] : [[row.lease, row]])));
  const ended = new Set(rows.map((row) => row.ended));
  return beats.map(({ start }) => {
    const lease = standing.get(start.lease);
    if (lease === undefined || ended.has(`${start.job_id}.${start.epoch}`)) return null;
    return { until: lease.until, cancel_requested: lease.cancels?.includes(start.job_id) ?? false };
  });
}

/** Leases that stand, with the jobs in them that were asked to stop; and jobs whose start somebody else has ended. */
export interface BeatenAll {
  standing: ReadonlyMap<string, readonly string[]>;
  ended: ReadonlySet<string>;
}

/** Extends the whole leases of these starts: a lease of several is kept by each of them. */
export async function beatAll(db: Pool, starts: readonly Start[], seconds: number): Promise<BeatenAll> {
  const rows = await db.many(extendLeases, [
    numbers([...new Set(starts.map((start) => start.lease))]),
    seconds,
    numbers(starts.map((start) => start.job_id)),
    numbers(starts.map((start) => start.epoch)),
  ]);
  const standing = new Map<string, readonly string[]>();
  const ended = new Set<string>();
  for (const { lease, cancels, job_id } of rows) {
    if (lease !== null) standing.set(lease, cancels ?? []);
    if (job_id !== null) ended.add(job_id);
  }
  return { standing, ended };
}
