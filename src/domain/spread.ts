// What keeps schedules apart that would all start at once: a number that looks like chance but is always the same for the
// same text. Invariant: no chance at all, so that every replica and every restart finds the same slots and due moments.
// Next room: domain/cron.ts for `H`, domain/jitter.ts for the delay of a slot.
import { createHash } from 'node:crypto';

/** A whole number from 0 to below `below`, decided by the text and evenly spread over texts. */
export function spreadOf(text: string, below: number): number {
  return createHash('sha256').update(text).digest().readUIntBE(0, 6) % below;
}
