// Slots at a plain distance: every so many seconds from an anchor, whatever the clocks of people do.
// Invariant: slot n is anchor + n times the distance, so neither restarts nor changes of anything else move it.
// Next room: domain/cadence.ts.
import type { Moments } from './calendar.ts';

/** Moments at a distance of `step` ms from `anchor`. */
export class Interval implements Moments {
  readonly #step: number;
  readonly #anchor: number;

  constructor(step: number, anchor: number) {
    this.#step = step;
    this.#anchor = anchor;
  }

  next(after: number): number {
    return this.#anchor + (this.#index(after) + 1) * this.#step;
  }

  previous(before: number): number {
    return this.#anchor + this.#index(before - 1) * this.#step;
  }

  // biome-ignore lint/correctness/useYield: arithmetic takes no time, so there is nowhere to pause
  *count(after: number, until: number, most: number): Generator<undefined, number> {
    return Math.min(Math.max(this.#index(until) - this.#index(after), 0), most + 1);
  }

  isNamed(): boolean {
    return true;
  }

  #index(moment: number): number {
    return Math.floor((moment - this.#anchor) / this.#step);
  }
}
