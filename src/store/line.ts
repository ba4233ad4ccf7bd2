// Who waits for a turn at the database stands in a line that is bounded in length and in time. When nobody has moved for half
// of that time the line is stuck: all who stand there are refused, and whoever comes is refused at once until one moves. So a database that hangs is noticed long before its statements time out.
// Invariants: what is refused here was never sent to the database, so nothing of it can be stored; a busy process is not
// taken for a stuck database.
// Next room: flush.ts and turns.ts, which give the turns.
import { Problem } from '../domain/problem.ts';

/** One who waits. */
export interface Waiting {
  /** When it came, on the monotonic clock. */
  readonly since: number;
  reject(error: unknown): void;
}

/** How long a caller waits in a line that moves, in ms, unless its line says otherwise. */
const patience_ms = 1_000;

/** Longer, for who holds a lease or has waited for a job already: a refusal costs more there than at the door. */
export const holder_patience_ms = 2_000;

export class Line<One extends Waiting> {
  #most: number;
  #patience: number;
  #stuckAfter: number;
  #ones: One[] = [];
  #movedAt = performance.now();
  #isStuck = false;
  #look: NodeJS.Timeout | undefined;

  constructor(most: number, patienceMs: number = patience_ms) {
    this.#most = most;
    this.#patience = patienceMs;
    this.#stuckAfter = patienceMs / 2;
  }

  get length(): number {
    return this.#ones.length;
  }

  /** Takes one in, or refuses it. */
  join(one: One): void {
    if (this.#isStuck) one.reject(tooSlow(this.#stuckAfter));
    else if (this.#ones.length >= this.#most) one.reject(tooLong(this.#ones.length));
    else {
      this.#ones.push(one);
      // One timer for all of them, not one for each.
      this.#look ??= this.#lookIn(this.#stuckAfter);
    }
  }

  /** Those whose turn it is, at most so many. */
  take(most: number): One[] {
    this.moved();
    return this.#ones.splice(0, most);
  }

  /** A turn was given, or given back. */
  moved(): void {
    this.#movedAt = performance.now();
    this.#isStuck = false;
  }

  #lookIn(ms: number): NodeJS.Timeout {
    // Only after what has arrived was read: where this process itself was held up, the turn may be about to be given.
    return setTimeout(() => setImmediate(() => this.#refuse()), ms + 1);
  }

  #refuse(): void {
    this.#look = undefined;
    const now = performance.now();
    if (now - this.#stoodSince() >= this.#stuckAfter) {
      this.#isStuck = true;
      this.#refuseFirst(this.#ones.length, this.#stuckAfter);
    } else {
      const fresh = this.#ones.findIndex(({ since }) => now - since < this.#patience);
      this.#refuseFirst(fresh < 0 ? this.#ones.length : fresh, this.#patience);
    }
    const [next] = this.#ones;
    if (next === undefined) return;
    const at = Math.min(next.since + this.#patience, this.#stoodSince() + this.#stuckAfter);
    this.#look = this.#lookIn(Math.max(0, at - now));
  }

  /** Since when somebody waits and nothing moves. */
  #stoodSince(): number {
    return Math.max(this.#movedAt, this.#ones[0]?.since ?? Number.POSITIVE_INFINITY);
  }

  #refuseFirst(count: number, ms: number): void {
    for (const { reject } of this.#ones.splice(0, count)) reject(tooSlow(ms));
  }
}

function tooLong(waiting: number): Problem {
  return saturated(`${waiting} requests already wait for the database; try again`);
}

function tooSlow(ms: number): Problem {
  return saturated(`the database gave no turn within ${ms} ms; try again`);
}

function saturated(detail: string): Problem {
  return new Problem('queue-saturated', { detail, headers: { 'retry-after': '1' } });
}
