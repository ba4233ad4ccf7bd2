// Which jobs of a lease are still open, as far as this process has handed them out and seen them end, so that the settle
// that ends the last one can delete the lease row with it. Settles that run side by side may end the last ones together, and
// neither knows that of the other: such a lease goes with the next settle.
// Invariant: only an economy: a lease whose end is split over replicas stands until it runs out, and nothing else changes.
// Next room: actions/settle.ts.
import type { Start } from './start.ts';

export class OpenLeases {
  #open = new Map<string, Set<string>>();
  #most: number;

  /** Remembers at most `most` leases; the oldest are forgotten first. */
  constructor(most = 100_000) {
    this.#most = most;
  }

  granted(starts: Iterable<Start>): void {
    for (const { lease, job_id } of starts) {
      const jobs = this.#open.get(lease);
      if (jobs === undefined) this.#open.set(lease, new Set([job_id]));
      else jobs.add(job_id);
    }
    for (const oldest of this.#open.keys()) {
      if (this.#open.size <= this.#most) break;
      this.#open.delete(oldest);
    }
  }

  /** Leases that would be empty once these starts have ended. */
  emptiedBy(starts: readonly Start[]): string[] {
    // Jobs, not endings: the same completion may come twice in one batch.
    const ending = new Map<string, Set<string>>();
    for (const { lease, job_id } of starts) {
      if (!this.#open.get(lease)?.has(job_id)) continue;
      const jobs = ending.get(lease) ?? new Set();
      ending.set(lease, jobs.add(job_id));
    }
    return [...ending]
      .filter(([lease, jobs]) => this.#open.get(lease)?.size === jobs.size)
      .map(([lease]) => lease);
  }

  /** Answers with the leases that are empty now. */
  ended(starts: Iterable<Start>): string[] {
    const empty: string[] = [];
    for (const { lease, job_id } of starts) {
      const jobs = this.#open.get(lease);
      if (!jobs?.delete(job_id) || jobs.size > 0) continue;
      this.#open.delete(lease);
      empty.push(lease);
    }
    return empty;
  }
}
