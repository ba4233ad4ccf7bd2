// Does work that takes a while in parts, so that requests, leases and renewals are served in between.
// Invariant: nothing is done of it but what the work itself does; it may pause wherever it yields, and nowhere else.
// Next room: domain/cadence.ts, whose slots may be thousands.
import { setImmediate as othersHadTheirTurn } from 'node:timers/promises';

/** What a generator returns, driven to its end with a pause at each yield. */
export async function unhurried<Result>(work: Generator<undefined, Result>): Promise<Result> {
  for (;;) {
    const step = work.next();
    if (step.done === true) return step.value;
    await othersHadTheirTurn();
  }
}
