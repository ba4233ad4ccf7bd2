// Drill: three replicas, a hundred schedules in three zones, and the leader killed with -9 every 20 seconds. Every slot that
// another cron library names is in the ledger once, with one job, and no later than a term and two seconds.
// Next room: test/support/schedule-run.ts, the stage; test/support/ledger-books.ts, the checker.
import { killLeader } from '../support/leader-faults.ts';
import { verdictOn } from '../support/ledger-books.ts';
import { plans } from '../support/oracle.ts';
import { scheduleRun } from '../support/schedule-run.ts';
import type { Drill, Verdict } from './drill.ts';

const kill_every_seconds = 20;

export const drill: Drill = {
  name: 'schedules',
  proves: 'no slot of a schedule is missed and none fires twice while leaders are killed',
  profiles: ['short', 'long'],
  async run({ profile, folder, say }): Promise<Verdict> {
    const [seconds, term_seconds] = profile === 'long' ? [600, 15] : [100, 5];
    const run = await scheduleRun({ folder, term_seconds });
    try {
      for (const n of [0, 1, 2]) await run.start(n);
      await run.declare(plans(30, 70), seconds);
      let kills = 0;
      while (run.left() > kill_every_seconds) {
        await run.rest(kill_every_seconds);
        await killLeader(run);
        kills++;
      }
      const books = await run.settle();
      say(`${books.due} slots due, ${books.in_ledger} in the ledger; ${kills} leaders killed`);
      return verdictOn(books, {
        most_lateness_seconds: term_seconds + 2,
        happened: {
          'three leaders were killed': kills >= 3,
          'each kill began a new term': books.terms > kills,
          'slots were late because nobody led': books.late > 0,
        },
        figures: { schedules: 100, seconds, kills },
      });
    } finally {
      await run.close();
    }
  },
};
