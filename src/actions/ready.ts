// Tells whoever may claim that heads became ready: workers and pull callers of this process at once, other processes by
// a NOTIFY of its own, at most one in 5 ms where they are many. A NOTIFY inside the insert would serialise every commit of the cluster.
// Invariant: only a hint. Losing all of them costs one poll interval.
// Next room: roles/worker/worker.ts and pull.ts, which are told; both claim through claim.ts.
import type { Heads } from '../domain/heads.ts';
import { Pace } from '../domain/pace.ts';

export interface ReadyHead {
  lane: number;
  prio: number;
}

export interface ReadyOptions {
  heads: Heads;
  /** Tells other processes; a failure is the caller's to report. */
  notify: (payload: string) => Promise<void>;
  /** Learns the lanes this process has not met; undefined when it knows the lane. */
  meet: (lane: number) => Promise<void> | undefined;
  onError: (error: unknown) => void;
}

const gap_ms = 5;
const hints_at_once = 4;
/** Inserts slower than this may commit behind a cursor that has passed them: their first block goes into the hint. */
export const slow_insert_ms = 25;

export class Ready {
  #options: ReadyOptions;
  #origin = Math.random().toString(36).slice(2, 10);
  #listeners = new Set<() => void>();
  #pending = new Map<string, bigint | null>();
  #sending = false;
  #pace = new Pace(gap_ms, hints_at_once);

  constructor(options: ReadyOptions) {
    this.#options = options;
  }

  /** Heads this process made ready; `slowBlock` is the first block of an insert that took long. */
  announce(heads: Iterable<ReadyHead>, slowBlock: bigint | null = null): void {
    for (const { lane, prio } of heads) {
      this.#options.heads.ready(lane, prio, slowBlock ?? undefined);
      const key = `${lane}.${prio}`;
      const before = this.#pending.get(key) ?? null;
      this.#pending.set(
        key,
        before === null || (slowBlock !== null && slowBlock < before) ? slowBlock : before,
      );
    }
    this.wake();
    this.#send();
  }

  /** A hint from another process; our own come back and are ignored. */
  hear(payload: string): void {
    const [origin, ...parts] = payload.split(' ');
    if (origin === this.#origin) return;
    for (const part of parts) {
      const [lane, prio, block] = part.split('.');
      if (!/^\d+$/.test(lane ?? '') || !/^\d+$/.test(prio ?? '')) continue;
      this.#options.heads.ready(Number(lane), Number(prio), block !== undefined ? BigInt(block) : undefined);
      this.#meet(Number(lane));
    }
    this.wake();
  }

  /** Heads found by looking, not by a hint. */
  found(heads: Iterable<ReadyHead>): void {
    let any = false;
    for (const { lane, prio } of heads) {
      this.#options.heads.ready(lane, prio);
      this.#meet(lane);
      any = true;
    }
    if (any) this.wake();
  }

  /** Calls `listener` whenever something may have become ready. */
  on(listener: () => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }

  /** Has everybody look: what is known to be ready may be claimed now. */
  wake(): void {
    for (const listener of this.#listeners) listener();
  }

  #meet(lane: number): void {
    this.#options.meet(lane)?.then(() => this.wake(), this.#options.onError);
  }

  #send(): void {
    if (this.#sending || this.#pending.size === 0) return;
    this.#sending = true;
    const wait = this.#pace.wait(performance.now());
    const send = async () => {
      // A payload may hold 8,000 bytes; what is beyond goes with the next.
      const batch = [...this.#pending].slice(0, 200);
      for (const [key] of batch) this.#pending.delete(key);
      this.#pace.take(performance.now());
      const parts = batch.map(([key, block]) => (block === null ? key : `${key}.${block}`));
      try {
        await this.#options.notify([this.#origin, ...parts].join(' '));
      } catch (error) {
        this.#options.onError(error);
      } finally {
        this.#sending = false;
        this.#send();
      }
    };
    if (wait === 0) void send();
    else setTimeout(() => void send(), wait);
  }
}
