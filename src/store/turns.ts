// Lets so many work at once and the others wait in a line: before every pool, so that its waiters are bounded, and before
// the share of a pool that a crowd may have, so that the rest stays free for whoever must not wait.
// Invariant: turns are given in the order of arrival, and whoever has one gives it back.
// Next room: line.ts; db.ts, whose pools stand behind it.
import { holder_patience_ms, Line, type Waiting } from './line.ts';

interface Waiter extends Waiting {
  resolve: () => void;
}

export class Turns {
  #most: number;
  #line: Line<Waiter>;
  #taken = 0;

  constructor(most: number, mostWaiting: number) {
    this.#most = most;
    this.#line = new Line(mostWaiting, holder_patience_ms);
  }

  /** Those who wait. */
  get waiting(): number {
    return this.#line.length;
  }

  /** Does the work when its turn has come; throws 503 `queue-saturated` where it does not come. */
  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.#taken >= this.#most) await this.#wait();
    else this.#taken++;
    try {
      return await work();
    } finally {
      const [next] = this.#line.take(1);
      if (next === undefined) this.#taken--;
      else next.resolve();
    }
  }

  #wait(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#line.join({ since: performance.now(), resolve, reject });
    });
  }
}
