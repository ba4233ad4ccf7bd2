// The delivery check: delivered = unique = enqueued = finished, or there is no figure. A queue that loses or doubles jobs
// is fast for free.
// Invariant: every figure that runs jobs asks here, so what the tests plant here is caught in all of them.
// Next room: race.ts, which makes doubles likely; contestants/doubling.ts, which makes them certain.

export interface Delivery {
  enqueued: number;
  /** The id of each delivery, from all processes, in any order. */
  ids: readonly string[];
  /** The ids that were enqueued, where the caller knows them. */
  sent?: readonly string[];
  /** How many the store calls done; absent: the store was not asked. */
  finished?: number;
}

/** Throws with the counts when a job was lost, delivered twice or not finished. */
export function checkDelivery(
  what: string,
  { enqueued, ids, sent = [], finished = enqueued }: Delivery,
): void {
  const unique = new Set([...ids, ...sent]).size;
  checkCounts(what, { enqueued, delivered: ids.length, unique, finished });
}

export interface Counts {
  enqueued: number;
  delivered: number;
  unique: number;
  finished: number;
}

/** The same where ids were counted as they came. */
export function checkCounts(what: string, { enqueued, delivered, unique, finished }: Counts): void {
  if (delivered === enqueued && unique === enqueued && finished === enqueued) return;
  throw new Error(
    `${what}: enqueued ${enqueued}, delivered ${delivered}, unique ${unique}, finished ${finished}; no figure`,
  );
}

/** How many requests were accepted; throws when one was not. */
export function acceptedOf(what: string, statuses: Readonly<Record<string, number>>): number {
  const { '202': accepted = 0, ...others } = statuses;
  if (Object.keys(others).length === 0) return accepted;
  throw new Error(`${what}: answers other than 202: ${JSON.stringify(statuses)}; no figure`);
}

/** Throws unless the store holds exactly what was told as stored. */
export function checkStored(what: string, told: number, stored: number): void {
  if (stored !== told) throw new Error(`${what}: told ${told} jobs as stored, holds ${stored}; no figure`);
}
