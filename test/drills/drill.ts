// The form of a drill: a proof that needs real proxies, long kills, big tables or a whole image, and ends in a verdict.
// Invariants: a drill whose rare path was never taken is VACUOUS, not passed; one whose tools are missing is NOT RUN with
// the reason; it undoes its faults and ends only processes that it started.
// Next room: run.ts, which runs them; crash.ts, import.ts, image.ts and proxies.ts, the drills.

export const profiles = ['short', 'long'] as const;
/** `short` fits into CI; `long` is run once and recorded under docs/proof/. */
export type Profile = (typeof profiles)[number];

/** Numbers and names worth keeping; no path and no host name. */
export interface Figures {
  [name: string]: number | string | boolean | null | Figures;
}

export type Verdict = { figures?: Figures; versions?: Record<string, string> } & (
  | { result: 'PASS' }
  | {
      /** FAIL: a promise was broken. VACUOUS: what was to be proven never happened. NOT RUN: something is missing here. */
      result: 'FAIL' | 'VACUOUS' | 'NOT RUN';
      reason: string;
    }
);

export interface Context {
  profile: Profile;
  /** Told in the verdict; repeats the run's random choices. */
  seed: number;
  /** From 0 up to, not including, 1; decided by the seed. */
  random(): number;
  /** An empty folder that goes with the drill. */
  folder: string;
  say(line: string): void;
}

export interface Drill {
  /** The name of its file. */
  name: string;
  /** What it proves, in one sentence. */
  proves: string;
  profiles: readonly Profile[];
  /** Past this it is ended and has failed; default 15. */
  limit_minutes?: number;
  /** A throw is a FAIL with its message. */
  run(context: Context): Promise<Verdict>;
}
