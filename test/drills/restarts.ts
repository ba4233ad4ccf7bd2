// Drill: a rolling deploy, again and again: each replica in turn is told to stop by SIGTERM and started again, across the
// slots of schedules that are due each second. Nothing is missed, and a leader that leaves leaves no gap of a term.
// Next room: test/support/schedule-run.ts, the stage; test/support/ledger-books.ts, the checker.
import { verdictOn } from '../support/ledger-books.ts';
import { plans } from '../support/oracle.ts';
import { scheduleRun } from '../support/schedule-run.ts';
import type { Drill, Verdict } from './drill.ts';

const term_seconds = 15;
/** A leader that stops gives its term back, and others look every second. */
const most_lateness_seconds = 4;

export const drill: Drill = {
  name: 'restarts',
  proves: 'rolling restarts across the slots of schedules miss none',
  profiles: ['short', 'long'],
  async run({ profile, folder, say }): Promise<Verdict> {
    const [seconds, least] = profile === 'long' ? [150, 50] : [30, 12];
    const run = await scheduleRun({ folder, term_seconds });
    try {
      for (const n of [0, 1, 2]) await run.start(n);
      await run.declare(plans(30, 70), seconds);
      await run.rest(4);
      let restarts = 0;
      let of_leaders = 0;
      for (; run.left() > 0; restarts++) {
        const replica = run.replicas[restarts % 3];
        if ((await run.leader()) === replica) of_leaders++;
        const code = await replica?.stop();
        if (code !== 0) throw new Error(`a replica that was told to stop ended with ${code}`);
        await run.start(restarts % 3);
      }
      const books = await run.settle();
      say(`${restarts} restarts, ${of_leaders} of leaders; ${books.in_ledger} of ${books.due} slots`);
      return verdictOn(books, {
        most_lateness_seconds,
        happened: {
          [`${least} restarts`]: restarts >= least,
          'leaders among them': of_leaders >= 3,
        },
        figures: { seconds, restarts, of_leaders },
      });
    } finally {
      await run.close();
    }
  },
};
