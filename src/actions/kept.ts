// What a transaction that stores jobs comes to: what each of them is answered with, and what is to be told once it has
// committed.
// Invariant: nothing of it is told before the commit.
// Next room: unique.ts and holders.ts, which fill it; keys.ts, which tells it.
import type { JobState } from '../domain/job.ts';
import type { Told } from '../store/callbacks.ts';
import type { Inserted } from '../store/inserts.ts';
import type { LetGo } from '../store/unique.ts';
import type { ReadyHead } from './ready.ts';

/** What became of one job; `held`: the key's holder stands for it, or is why it was refused. */
export type Kept =
  | { kind: 'made'; made: NonNullable<Inserted>; blocked_by: string | null }
  | { kind: 'known'; id: string; print: Buffer }
  | { kind: 'held'; id: string }
  | { kind: 'refused'; id: string; state: JobState };

/** The job that stands for one that was to be stored: itself, or the one that was there. */
export function idOf(kept: Kept): string {
  return kept.kind === 'made' ? kept.made.id : kept.id;
}

/** A job that another took the place of. */
export interface Superseded {
  id: string;
  lane: number;
  type: string | null;
  from: JobState;
}

/** A place in a line that a job kept for the one that superseded it. */
export interface KeptPlace extends ReadyHead {
  ord: string;
}

/** What one transaction did. */
export interface KeptAll {
  /** In the order of the jobs; undefined: a job without a unique key whose idempotency key names another. */
  kept: (Kept | undefined)[];
  heads: ReadyHead[];
  first_block: string | null;
  /** Places that cursors may have passed. */
  places: KeptPlace[];
  superseded: Superseded[];
  /** Holders for which jobs wait now. */
  waits: { holder: string; key: string }[];
  /** Jobs that waited for a holder and go on. */
  gone: LetGo[];
  callbacks: Told[];
}

/** Of so many jobs, before anything is done. */
export function nothingKept(jobs: number): KeptAll {
  return {
    kept: Array.from({ length: jobs }, () => undefined),
    heads: [],
    first_block: null,
    places: [],
    superseded: [],
    waits: [],
    gone: [],
    callbacks: [],
  };
}

/** Notes heads that became ready, and the lowest of all new blocks: it may be behind a cursor when the commit comes late. */
export function noteBlocks(all: KeptAll, heads: readonly ReadyHead[], first: string): void {
  all.heads.push(...heads);
  if (all.first_block === null || BigInt(first) < BigInt(all.first_block)) all.first_block = first;
}
