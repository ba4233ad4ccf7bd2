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
