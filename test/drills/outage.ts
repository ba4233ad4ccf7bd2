// Drill: Postgres is stopped for half a minute and started again, under the same replicas. What fell due meanwhile is fired
// late, all of it, and nobody has to be restarted.
// Next room: test/support/schedule-run.ts, the stage; test/support/ledger-books.ts, the checker.
import { setTimeout as pause } from 'node:timers/promises';
import { verdictOn } from '../support/ledger-books.ts';
import { plans } from '../support/oracle.ts';
import { scheduleRun } from '../support/schedule-run.ts';
import type { Drill, Verdict } from './drill.ts';

const term_seconds = 5;
const outage_seconds = 30;
/** From the moment Postgres is back to the first slot that fires. */
const healing_seconds = 15;

export const drill: Drill = {
  name: 'outage',
  proves: 'a Postgres that was away for 30 seconds costs schedules lateness and no slot',
  profiles: ['short', 'long'],
  async run({ profile, folder, say }): Promise<Verdict> {
    const outages = profile === 'long' ? 4 : 1;
    const seconds = outages * (outage_seconds + 15);
    const run = await scheduleRun({ folder, term_seconds });
    try {
      for (const n of [0, 1]) await run.start(n);
      const pids = run.replicas.map(({ pid }) => pid);
      await run.declare(plans(30, 70), seconds);
      for (let n = 0; n < outages; n++) {
        await run.rest(8);
        await run.stopPostgres();
        await pause(outage_seconds * 1_000);
        await run.startPostgres();
      }
      const books = await run.settle();
      say(
        `${books.late} slots late, at most ${books.lateness.max} s; ${books.in_ledger} of ${books.due} slots`,
      );
      if (run.replicas.some(({ child, pid }, n) => child.exitCode !== null || pid !== pids[n])) {
        return { result: 'FAIL', reason: 'a replica ended when Postgres went away' };
      }
      return verdictOn(books, {
        most_lateness_seconds: outage_seconds + healing_seconds,
        happened: { 'slots fell due while Postgres was away': books.lateness.max >= outage_seconds - 1 },
        figures: { seconds, outages, outage_seconds },
      });
    } finally {
      await run.close();
    }
  },
};
