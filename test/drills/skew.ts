// Drill: replicas whose clocks are five minutes behind and ahead of the database, and whose clock is moved by an hour while
// they lead. Slots and lateness are as if they were right, because only the database's clock counts.
// Next room: test/support/faketime.ts, the clocks; test/support/ledger-books.ts, the checker.
import { type FakeClock, fakeClock } from '../support/faketime.ts';
import { leaderOf } from '../support/leader-faults.ts';
import { verdictOn } from '../support/ledger-books.ts';
import { plans } from '../support/oracle.ts';
import { scheduleRun } from '../support/schedule-run.ts';
import type { Drill, Verdict } from './drill.ts';

const term_seconds = 3;
const shift_seconds = 300;
const step_seconds = 3_600;

export const drill: Drill = {
  name: 'skew',
  proves: 'wrong clocks of replicas, and clocks that jump, change neither slots nor lateness',
  profiles: ['short', 'long'],
  async run({ profile, folder, say }): Promise<Verdict> {
    const [seconds, each] = profile === 'long' ? [180, 30] : [40, 6];
    let behind: FakeClock;
    let ahead: FakeClock;
    try {
      behind = await fakeClock(folder, -shift_seconds);
      ahead = await fakeClock(folder, shift_seconds);
    } catch (error) {
      return { result: 'NOT RUN', reason: (error as Error).message };
    }
    const run = await scheduleRun({ folder, term_seconds });
    try {
      // The one with the right clock runs jobs and never leads, so that both of the others must.
      await run.start(0, behind.env);
      await run.start(2, { ERRAND_ROLES: 'api,worker' });
      await leaderOf(run);
      await run.start(1, ahead.env);
      const shifts = await Promise.all(run.replicas.map(({ url }) => shiftOf(url)));
      await run.declare(plans(30, 70), seconds);
      await run.rest(each);
      behind.set(-shift_seconds - step_seconds);
      await run.rest(each);
      const stepped = await shiftOf((await leaderOf(run)).url);
      await run.replicas[0]?.kill9();
      const second = await leaderOf(run);
      await run.start(0);
      await run.rest(each);
      ahead.set(shift_seconds + step_seconds);
      await run.rest(each);
      const steppedToo = await shiftOf(second.url);
      const books = await run.settle();
      say(`clocks were off by ${shifts.join(', ')} s, then by ${stepped} and ${steppedToo} s as they led`);
      return verdictOn(books, {
        most_lateness_seconds: term_seconds + 2,
        happened: {
          'the clocks were off': (shifts[0] ?? 0) < -290 && (shifts[1] ?? 0) > 290,
          'a clock went back under a leader': stepped < -3_800,
          'a clock went ahead under a leader': steppedToo > 3_800,
        },
        figures: { seconds, shift_seconds, step_seconds },
        versions: { libfaketime: behind.version },
      });
    } finally {
      await run.close();
    }
  },
};

/** Seconds by which a replica's clock is off, by the Date of its answers. */
async function shiftOf(url: string): Promise<number> {
  const answer = await fetch(`${url}/health/live`, { signal: AbortSignal.timeout(5_000) });
  await answer.body?.cancel();
  return Math.round((Date.parse(answer.headers.get('date') ?? '') - Date.now()) / 1_000);
}
