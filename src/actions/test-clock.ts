// The clock of the test mode as a process sees it: moves it, and has the chores do at once what has fallen due by that.
// Whoever asks what time it is for jobs asks here; what measures durations, signs or logs keeps the real clock.
// Invariants: time goes forward only; a move is answered once the chores have run since, or says that they have not; older
// news never replaces newer.
// Next room: store/test-clock.ts; roles/chores.ts `catchUp`.
import { Problem } from '../domain/problem.ts';
import type { Db } from '../store/db.ts';
import { type ClockRow, moveClock, readClock } from '../store/test-clock.ts';

export interface Moment {
  now: Date;
  frozen: boolean;
}

/** How to move the clock; what is absent stays as it is. */
export interface ClockChange {
  now?: string | undefined;
  advance_seconds?: number | undefined;
  frozen?: boolean | undefined;
}

export interface TestClockOptions {
  db: Db;
  /** Has every chore of this process run. */
  catchUp: () => Promise<void>;
  onError: (error: unknown) => void;
}

/** Longest wait for the chores of this process after a move. */
const patience_ms = 5_000;

export class TestClock {
  #options: TestClockOptions;
  #moves = -1n;
  #shown = 0;
  #at = 0;
  #frozen = false;

  constructor(options: TestClockOptions) {
    this.#options = options;
  }

  /** What time it is, as far as this process has heard. */
  now(): Date {
    return new Date(this.#shown + (this.#frozen ? 0 : performance.now() - this.#at));
  }

  get frozen(): boolean {
    return this.#frozen;
  }

  /** Reads the clock. */
  async look(): Promise<Moment> {
    return this.#remember(await this.#options.db.one(readClock));
  }

  /** Moves the clock; `chores_done` says whether all chores of this process have run since. Throws when it would go back. */
  async move({ now, advance_seconds, frozen }: ClockChange): Promise<Moment & { chores_done: boolean }> {
    const { db } = this.#options;
    const row = await db.maybeOne(moveClock, [now ?? null, advance_seconds ?? 0, frozen ?? null]);
    if (row === undefined) throw impossible(now, (await this.look()).now);
    const moment = this.#remember(row);
    return { ...moment, chores_done: await this.#catchUp() };
  }

  /** Another process may have moved it; the moves of this one come back as news and have been caught up with. */
  hear(): void {
    const before = this.#moves;
    this.look()
      .then(() => (this.#moves === before ? undefined : this.#options.catchUp()))
      .catch(this.#options.onError);
  }

  #remember({ now, frozen, moves }: ClockRow): Moment {
    if (BigInt(moves) >= this.#moves) {
      this.#moves = BigInt(moves);
      this.#shown = now.getTime();
      this.#at = performance.now();
      this.#frozen = frozen;
    }
    return { now, frozen };
  }

  /** A chore that fails is reported by its loop. */
  async #catchUp(): Promise<boolean> {
    const { promise: patience, resolve: end } = Promise.withResolvers<boolean>();
    const timer = setTimeout(end, patience_ms, false);
    const done = this.#options.catchUp().then(
      () => true,
      () => false,
    );
    return Promise.race([done, patience]).finally(() => clearTimeout(timer));
  }
}

function impossible(wanted: string | undefined, present: Date): Problem {
  const member = wanted === undefined ? 'advance_seconds' : 'now';
  const detail = `must lead to a time from ${present.toISOString()} on and before the year 9000; time does not go back`;
  const pointer = `#/${member}`;
  return new Problem('validation-failed', {
    detail: `${pointer} ${detail}`,
    errors: [{ pointer, code: 'out_of_range', detail }],
  });
}
