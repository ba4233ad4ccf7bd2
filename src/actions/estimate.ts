// Says when it is worth asking for a job again, by what its line does at this moment.
// Invariant: it waits for nothing and asks no database; where nothing is known it still answers.
// Next room: domain/retry-after.ts decides.
import type { NamedFacts } from '../domain/record.ts';
import { type Estimate, estimateOf } from '../domain/retry-after.ts';
import type { Levers } from './levers.ts';
import type { Statistics } from './statistics.ts';

/** Null: the job is at its end. */
export type EstimateJob = (facts: NamedFacts, now: Date) => Estimate | null;

export function estimating(options: {
  statistics: Pick<Statistics, 'peek'>;
  levers: Pick<Levers, 'pauseOf'>;
  random: () => number;
}): EstimateJob {
  const { statistics, levers, random } = options;
  return (facts, now) => {
    const { queue, type, state, created_at, started_at } = facts;
    const due = { state, created_at, started_at, run_at: facts.next_at ?? facts.run_at };
    return estimateOf(due, now, random, {
      pace: statistics.peek(queue, type)?.pace ?? null,
      isPaused: levers.pauseOf(queue, type) !== null,
    });
  };
}
