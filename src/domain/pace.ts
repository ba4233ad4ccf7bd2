// How often something is done that gathers what comes meanwhile: at once as long as it is rare, so that a trickle waits for
// nothing, and once in a gap when it is not, so that a stream costs the database few statements.
// Invariant: over any time, at most one turn for each gap that has passed, and the burst.
// Next room: actions/ready.ts and roles/worker/worker.ts, which go by it.

export class Pace {
  #gap: number;
  #ahead: number;
  /** When all turns that were taken would be over at one in a gap. */
  #until = Number.NEGATIVE_INFINITY;

  /** One turn in `gap_ms`; `burst` may be taken at once after a rest. */
  constructor(gap_ms: number, burst: number) {
    this.#gap = gap_ms;
    this.#ahead = gap_ms * (burst - 1);
  }

  /** How many ms from `now` the next turn may be taken, by a monotonic clock. */
  wait(now: number): number {
    return Math.max(0, this.#until - this.#ahead - now);
  }

  /** Takes a turn, whether its time has come or not. */
  take(now: number): void {
    // However many were taken before their time, a rest of the whole burst makes up for them.
    this.#until = Math.min(Math.max(this.#until, now), now + this.#ahead) + this.#gap;
  }
}
