// Callers who want one job each, of the same queues and types, claim together: one statement serves all who stand in line,
// so a crowd of single pullers costs the database what one worker costs, and a job wakes one claim and not a herd.
// Invariants: at most one claim of a line is under way; every caller gets a lease of its own, or nothing when its time is
// over; what was claimed for a caller is given to that caller, who alone can give it back.
// Next room: claim.ts.
import type { Heads } from '../domain/heads.ts';
import type { Claim, Job } from './claim.ts';
import type { Ready } from './ready.ts';

export interface OneAsk {
  owner: number;
  queues: readonly string[];
  types: readonly string[];
  lease_seconds: number;
}

/** Leases one job, or nothing. `over` ends the wait; without it the caller takes what is there now. */
export type LeaseOne = (ask: OneAsk, over: Promise<unknown> | null) => Promise<Job[]>;

export interface CoalesceOptions {
  claim: Claim;
  ready: Ready;
  heads: Heads;
  lanesOf: (queues: readonly string[], types: readonly string[]) => ReadonlySet<number>;
}

export function coalescing(options: CoalesceOptions): LeaseOne {
  const lines = new Map<string, Line>();
  return (ask, over) => {
    const key = JSON.stringify([ask.queues, ask.types, ask.lease_seconds]);
    const line = lines.get(key) ?? new Line(options, ask, () => lines.delete(key));
    lines.set(key, line);
    return line.join(ask.owner, over);
  };
}

interface Caller {
  owner: number;
  /** Whether it stays in line when a claim brought nothing for it. */
  waits: boolean;
  /** Its time ended while it was being claimed for. */
  isOver: boolean;
  resolve: (jobs: Job[]) => void;
  reject: (error: unknown) => void;
}

const most_per_claim = 1_000;
const claim_gap_ms = 5;
const most_tries = 6;

class Line {
  #options: CoalesceOptions;
  #ask: Omit<OneAsk, 'owner'>;
  #onEmpty: () => void;
  #callers = new Set<Caller>();
  #unlisten = () => {};
  #claiming = false;
  #again = false;
  #timer: NodeJS.Timeout | undefined;
  #at = Number.POSITIVE_INFINITY;
  #lastClaim = Number.NEGATIVE_INFINITY;
  #tries = 0;

  constructor(options: CoalesceOptions, ask: Omit<OneAsk, 'owner'>, onEmpty: () => void) {
    this.#options = options;
    this.#ask = ask;
    this.#onEmpty = onEmpty;
  }

  join(owner: number, over: Promise<unknown> | null): Promise<Job[]> {
    if (this.#callers.size === 0) this.#unlisten = this.#options.ready.on(() => this.#look());
    return new Promise((resolve, reject) => {
      const caller: Caller = { owner, waits: over !== null, isOver: false, resolve, reject };
      this.#callers.add(caller);
      void over?.then(() => this.#leave(caller));
      this.#look();
    });
  }

  #leave(caller: Caller): void {
    // A claim under way may bring a job for it: then somebody must be there to take it.
    caller.isOver = true;
    if (!this.#claiming && this.#callers.delete(caller)) {
      caller.resolve([]);
      this.#closeIfEmpty();
    }
  }

  /** Claims in `ms`, and not within the gap after the last claim: what comes meanwhile is served together. */
  #look(ms = 0): void {
    if (this.#claiming) {
      this.#again = true;
      return;
    }
    const now = performance.now();
    const at = Math.max(now + ms, this.#lastClaim + claim_gap_ms);
    if (at >= this.#at) return;
    clearTimeout(this.#timer);
    this.#at = at;
    this.#timer = setTimeout(() => void this.#round(), at - now);
  }

  async #round(): Promise<void> {
    this.#at = Number.POSITIVE_INFINITY;
    this.#lastClaim = performance.now();
    const line = [...this.#callers];
    const batch = line.slice(0, most_per_claim);
    const { queues, types, lease_seconds } = this.#ask;
    const lanes = this.#options.lanesOf(queues, types);
    this.#claiming = true;
    this.#again = false;
    let claimed = 0;
    try {
      const owners = batch.map((caller) => caller.owner) as [number, ...number[]];
      const jobs = await this.#options.claim({
        owners,
        apart: true,
        lanes,
        want: batch.length,
        lease_seconds,
      });
      claimed = jobs.length;
      this.#handOut(batch, jobs);
    } catch (error) {
      for (const caller of line) if (this.#callers.delete(caller)) caller.reject(error);
    } finally {
      this.#claiming = false;
    }
    // Where a claim brings less than was asked for, there is nothing for those behind either.
    const looked = new Set(claimed < batch.length ? line : batch);
    for (const caller of this.#callers) {
      const hasLooked = !caller.waits && looked.has(caller);
      if ((caller.isOver || hasLooked) && this.#callers.delete(caller)) caller.resolve([]);
    }
    if (this.#closeIfEmpty()) return;
    if (claimed > 0) this.#tries = 0;
    if (this.#again || claimed === batch.length) this.#look();
    // Another claimer holds the blocks for a moment: what it leaves is ours to take, so look again soon.
    else if (this.#options.heads.anyReady(lanes) && this.#tries < most_tries) {
      this.#look(claim_gap_ms * 2 ** this.#tries++);
    }
  }

  #handOut(batch: readonly Caller[], jobs: readonly Job[]): void {
    const byOwner = Map.groupBy(batch, (caller) => caller.owner);
    for (const job of jobs) {
      const caller = byOwner.get(job.owner)?.shift();
      if (caller === undefined) throw new Error(`a job was claimed for worker ${job.owner}, who did not ask`);
      this.#callers.delete(caller);
      caller.resolve([job]);
    }
  }

  #closeIfEmpty(): boolean {
    if (this.#callers.size > 0) return false;
    clearTimeout(this.#timer);
    this.#at = Number.POSITIVE_INFINITY;
    this.#unlisten();
    this.#onEmpty();
    return true;
  }
}
