// Drill: one job in a hundred kills the process that runs it. Each is buried after three losses; everything that was leased
// together with one of them succeeds.
// Next room: test/support/poison.ts.
import { poisonRun } from '../support/poison.ts';
import type { Drill, Verdict } from './drill.ts';

export const drill: Drill = {
  name: 'poison',
  proves: 'a job that kills its worker is buried after three losses, and its neighbours all succeed',
  profiles: ['short', 'long'],
  limit_minutes: 15,
  async run({ profile, say }): Promise<Verdict> {
    const total = profile === 'long' ? 5_000 : 1_000;
    const poison = total / 100;
    const { jobs, deaths, seconds } = await poisonRun({
      ...{ healthy: total - poison, poison, workers: 4 },
      timeoutMs: 12 * 60_000,
    });
    const bad = jobs.filter((job) => job.poison);
    const good = jobs.filter((job) => !job.poison);
    const buried = bad.filter(
      (job) => job.state === 'dead' && job.class === 'poison' && job.starts === 3 && job.ends === 1,
    );
    const saved = good.filter((job) => job.state === 'succeeded' && job.ends === 1);
    const hit = good.filter((job) => job.lost > 0);
    const figures = {
      ...{ jobs: total, poison, deaths, seconds },
      buried_after_three_losses: buried.length,
      neighbours_that_were_lost: hit.length,
      neighbours_lost_most_often: Math.max(0, ...good.map((job) => job.lost)),
      others_that_succeeded: saved.length,
    };
    say(`${deaths} workers died, ${hit.length} neighbours were lost with them`);
    if (hit.length === 0) return { result: 'VACUOUS', reason: 'no neighbour was ever lost', figures };
    if (buried.length !== poison)
      return { result: 'FAIL', reason: `${poison - buried.length} poison jobs were not buried so`, figures };
    if (saved.length !== total - poison)
      return { result: 'FAIL', reason: `${total - poison - saved.length} others did not succeed`, figures };
    return { result: 'PASS', figures };
  },
};
