// Lets callers wait for a job. Ends in this process release them at once; ends elsewhere by a hint through Redis, and in
// any case by one coalesced look at the outcomes for all waiters of the process.
// Invariants: a waiter always ends: by the job, by its time, or by the drain; the number of waiters is bounded.
// Next room: http/waiting.ts, which answers; watch.ts for those who wait for any change.
import { Problem } from '../domain/problem.ts';
import type { Pool } from '../store/db.ts';
import { findEnded } from '../store/jobs.ts';

/** Why a wait is over. */
export type WaitEnd = 'ended' | 'time' | 'drained' | 'gone';

export interface WaitOptions {
  db: Pool;
  /** Waiters this process may hold. */
  most: number;
  /** Whether hints of ends elsewhere arrive at present: then looking is only the fallback. */
  hinted: () => boolean;
  onError: (error: unknown) => void;
}

interface Waiter {
  finish: (end: WaitEnd) => void;
}

const look_ms = 20;
const look_hinted_ms = 250;

export class Waiters {
  #options: WaitOptions;
  #jobs = new Map<string, Set<Waiter>>();
  #count = 0;
  #reserved = 0;
  #looking: NodeJS.Timeout | undefined;
  #draining = false;

  constructor(options: WaitOptions) {
    this.#options = options;
  }

  /** Places that are taken. */
  get count(): number {
    return this.#count + this.#reserved;
  }

  /** Reserves a place to wait until `leave`, before anything is stored; throws 503 when there is none. */
  reserve(): { leave(): void } {
    this.admit();
    this.#reserved++;
    return { leave: () => this.#reserved-- };
  }

  /** Throws 503 when no further waiter can be taken. */
  admit(): void {
    if (this.#draining) {
      throw new Problem('draining', {
        detail: 'this server is stopping; repeat the call',
        headers: { 'retry-after': '1' },
      });
    }
    if (this.count >= this.#options.most) {
      throw new Problem('sync-capacity', {
        detail: `${this.count} callers already wait here; try again or take a 202`,
        headers: { 'retry-after': '1' },
      });
    }
  }

  /** Waits until the job has ended, at most `ms`; `signal` aborts when the caller has gone. */
  ended(id: string, ms: number, signal?: AbortSignal): Promise<WaitEnd> {
    return this.hold(id, ms, signal);
  }

  /** Holds a caller until released, at most `ms`; with an id it is released by that job's end. */
  hold(id: string | null, ms: number, signal?: AbortSignal): Promise<WaitEnd> {
    if (this.#draining) return Promise.resolve('drained');
    if (signal?.aborted) return Promise.resolve('gone');
    return new Promise((resolve) => {
      const key = id ?? '';
      const waiters = this.#jobs.get(key) ?? new Set();
      this.#jobs.set(key, waiters);
      const onAbort = () => waiter.finish('gone');
      const waiter: Waiter = {
        finish: (end) => {
          if (!waiters.delete(waiter)) return;
          if (waiters.size === 0) this.#jobs.delete(key);
          this.#count--;
          clearTimeout(timer);
          signal?.removeEventListener('abort', onAbort);
          resolve(end);
        },
      };
      const timer = setTimeout(() => waiter.finish('time'), ms);
      signal?.addEventListener('abort', onAbort, { once: true });
      waiters.add(waiter);
      this.#count++;
      this.#look();
    });
  }

  /** Jobs that are known to have ended. */
  release(ids: Iterable<string>): void {
    if (this.#jobs.size === 0) return;
    for (const id of ids) for (const waiter of this.#jobs.get(id) ?? []) waiter.finish('ended');
  }

  /** Looks now: hints may have been missed. */
  async lookNow(): Promise<void> {
    const ids = [...this.#jobs.keys()].filter((id) => id !== '');
    if (ids.length === 0) return;
    const rows = await this.#options.db.many(findEnded, [ids]);
    this.release(rows.map((row) => row.job_id));
  }

  /** Ends every wait; later ones end at once. */
  drain(): void {
    this.#draining = true;
    clearTimeout(this.#looking);
    for (const waiters of [...this.#jobs.values()])
      for (const waiter of [...waiters]) waiter.finish('drained');
  }

  #look(): void {
    if (this.#looking !== undefined || this.#draining) return;
    const wait = this.#options.hinted() ? look_hinted_ms : look_ms;
    this.#looking = setTimeout(async () => {
      try {
        await this.lookNow();
      } catch (error) {
        this.#options.onError(error);
      } finally {
        this.#looking = undefined;
        if (this.#jobs.size > 0) this.#look();
      }
    }, wait);
  }
}
