// How long after its slot a slot is due: a delay that keeps schedules apart which share their slots.
// Invariant: decided by the slot and the name alone, so every replica knows the same due moment, before and after a crash.
// Next room: domain/forecast.ts.
import type { Cadence } from './cadence.ts';
import { CadenceFault } from './cadence-fault.ts';
import { spreadOf } from './spread.ts';

/** When a slot is due: 0 to jitter_seconds later, to the millisecond. */
export function dueOf(slot: Date, jitter_seconds: number, name: string): Date {
  if (jitter_seconds === 0) return slot;
  const delay = spreadOf(`${name}\n${slot.getTime()}`, Math.round(jitter_seconds * 1000) + 1);
  return new Date(slot.getTime() + delay);
}

/** Throws when a slot could be due after the one behind it. The verdict is the same whenever it is asked for. */
export function checkJitter(cadence: Cadence, jitter_seconds: number): void {
  if (jitter_seconds === 0) return;
  const gap = shortestGap(cadence) / 1000;
  if (jitter_seconds <= gap) return;
  throw new CadenceFault(
    'jitter_seconds',
    `jitter_seconds is ${jitter_seconds}, but slots are as close as ${gap} s; use at most ${gap}`,
  );
}

// Of the first slots there ever were, enough for a week of hours: later ones keep the same distances, but for clock
// changes.
function shortestGap(cadence: Cadence): number {
  let shortest = Number.POSITIVE_INFINITY;
  let slot = cadence.next(new Date(-1));
  for (let pairs = 0; pairs < 168 && slot !== null; pairs += 1) {
    const next = cadence.next(slot);
    if (next !== null) shortest = Math.min(shortest, next.getTime() - slot.getTime());
    slot = next;
  }
  return shortest;
}
