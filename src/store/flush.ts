// The self-clocking coalescer: whatever arrives while a flush runs is the next flush. An empty system flushes at once,
// a busy one grows its batches, so the cost per job falls as the load rises and nobody waits for a timer. The next flush begins
// before the last one's callers are answered: the database never waits for answers to be written.
// Invariants: every item is answered exactly once, after its own flush; the line before it is bounded in length and in time; a flush
// that fails for one item's fault is repeated item by item, so no item suffers for its neighbour.
// Next room: line.ts; inserts.ts and endings.ts, whose statements are run through it.
import { Line, type Waiting } from './line.ts';

export interface FlushOptions<Item, Result> {
  /** Runs one batch; answers in the order of the items. */
  run: (items: Item[]) => Promise<Result[]>;
  /** Flushes under way at once. */
  inFlight: number;
  /** A further flush starts only when the last one has run so long, in ms: then it is stuck, not busy. Default: 0. */
  overtakeMs?: number;
  /** Items of one flush at most. */
  max: number;
  /** Shortest time between the starts of two flushes, in ms; the first is immediate. */
  gapMs: number;
  /** Items that may wait; more are refused with 503 `queue-saturated`. */
  maxWaiting: number;
  /** Longest time an item may wait for its flush to start, in ms; then it is refused with 503. Default: 1 s. */
  patienceMs?: number;
  /** Whether a failed flush may be repeated item by item (the fault was an item's, and nothing took effect). */
  splits?: (error: unknown) => boolean;
}

/** Joins concurrent calls into few statements. `add` resolves after the commit its item was part of. */
export class Flush<Item, Result> {
  #options: FlushOptions<Item, Result>;
  #waiting: Line<Entry<Item, Result>>;
  #running = 0;
  #lastStart = Number.NEGATIVE_INFINITY;
  #timer: NodeJS.Timeout | undefined;
  #scheduled = false;
  #at = 0;

  constructor(options: FlushOptions<Item, Result>) {
    this.#options = options;
    this.#waiting = new Line(options.maxWaiting, options.patienceMs);
  }

  /** Items waiting for a flush. */
  get waiting(): number {
    return this.#waiting.length;
  }

  add(item: Item): Promise<Result> {
    return new Promise((resolve, reject) => {
      this.#waiting.join({ item, resolve, reject, since: performance.now() });
      this.#schedule();
    });
  }

  #schedule(): void {
    if (this.#waiting.length === 0 || this.#running >= this.#options.inFlight) return;
    const { gapMs, overtakeMs = 0 } = this.#options;
    const pause = this.#running > 0 ? Math.max(gapMs, overtakeMs) : gapMs;
    const at = this.#lastStart + pause;
    if (this.#scheduled && this.#at <= at) return;
    clearTimeout(this.#timer);
    this.#scheduled = true;
    this.#at = at;
    const wait = at - performance.now();
    // setImmediate, not a microtask: the requests parsed in this turn of the event loop join the same flush.
    if (wait <= 0) setImmediate(() => this.#start());
    else this.#timer = setTimeout(() => this.#start(), wait);
  }

  #start(): void {
    this.#scheduled = false;
    const entries = this.#waiting.take(this.#options.max);
    if (entries.length === 0) return;
    this.#running++;
    this.#lastStart = performance.now();
    void this.#flush(entries).then((answer) => this.#ended(answer));
    this.#schedule();
  }

  /** The next flush first: the database works on it while this process answers those of the last one. */
  #ended(answer: () => void): void {
    this.#running--;
    this.#waiting.moved();
    this.#schedule();
    if (this.#scheduled) setImmediate(answer);
    else answer();
  }

  /** Runs a flush; says how to answer it. */
  async #flush(entries: Entry<Item, Result>[]): Promise<() => void> {
    try {
      const results = await this.#options.run(entries.map((entry) => entry.item));
      return () => {
        for (const [i, entry] of entries.entries()) entry.resolve(results[i] as Result);
      };
    } catch (error) {
      if (entries.length > 1 && this.#options.splits?.(error)) {
        for (const entry of entries) (await this.#flush([entry]))();
        return () => {};
      }
      return () => {
        for (const entry of entries) entry.reject(error);
      };
    }
  }
}

interface Entry<Item, Result> extends Waiting {
  item: Item;
  resolve: (result: Result) => void;
}
