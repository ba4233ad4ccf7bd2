// Four claimers in two processes take the same backlog in small bites. Prefetching many jobs at once hides double
// deliveries; blocks that are taken in part, by several at a time, bring them out.
// Invariant: for a figure both processes ran something, or it was no race.
// Next room: delivery.ts, which judges.
import { enter } from './contestant.ts';
import { checkDelivery } from './delivery.ts';
import { drain } from './drained.ts';
import type { Ground } from './ground.ts';

const processes = 2;
const workers = 2;
const concurrency = 7;

export const race_check = `a backlog taken in bites of up to ${concurrency} by ${processes * workers} claimers in ${processes} processes: each job delivered once`;

/** Throws unless each of `jobs` is delivered exactly once; returns how many each process ran. */
export async function race(contestant: string, url: string, jobs: number): Promise<number[]> {
  const stages = Array.from({ length: processes }, () => enter(contestant, url));
  const [leader] = stages as [(typeof stages)[0]];
  try {
    await leader.ask('prepare', {});
    await leader.ask('fill', { count: jobs });
    const { ids, shares } = await drain(stages, { count: jobs, workers, concurrency, server: process.pid });
    const { finished } = await leader.ask('finished', { enqueued: jobs });
    checkDelivery('four partial claimers', { enqueued: jobs, ids, finished });
    return shares;
  } finally {
    await Promise.all(stages.map((stage) => stage.leave()));
  }
}

const race_jobs = 12_000;
const races = new WeakMap<Ground, Map<string, Promise<void>>>();

/** The race of a run: held once for all figures that rest on it. */
export function raceOnce(ground: Ground, contestant: string): Promise<void> {
  const held = races.get(ground) ?? new Map<string, Promise<void>>();
  races.set(ground, held);
  const one = held.get(contestant) ?? hold(ground, contestant);
  held.set(contestant, one);
  return one;
}

async function hold(ground: Ground, contestant: string): Promise<void> {
  const shares = await race(contestant, await ground.database('race'), race_jobs);
  if (shares.includes(0)) throw new Error('one process ran nothing: the race was none; no figure');
}
