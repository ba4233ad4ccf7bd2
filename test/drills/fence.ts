// Drill: the leader is frozen in the middle of firing, for longer than its term; another leads and fires; the first thaws and
// goes on where it was. What it writes is refused by its term, and a counter says so. One that is frozen inside its transaction
// holds the term until the database ends its session.
// Next room: test/support/leader-faults.ts, the freeze; test/support/ledger-books.ts, the checker.
import { freezeLeader } from '../support/leader-faults.ts';
import { verdictOn } from '../support/ledger-books.ts';
import { plans } from '../support/oracle.ts';
import { scheduleRun } from '../support/schedule-run.ts';
import type { Drill, Verdict } from './drill.ts';

const term_seconds = 3;
/** How long the database bears a transaction in which nothing happens. */
const idle_seconds = 5;

export const drill: Drill = {
  name: 'fence',
  proves: 'a leader that was frozen past its term changes nothing when it thaws',
  profiles: ['short', 'long'],
  async run({ profile, folder, say }): Promise<Verdict> {
    const [seconds, freezes] = profile === 'long' ? [160, 16] : [32, 3];
    const run = await scheduleRun({ folder, term_seconds });
    try {
      for (const n of [0, 1]) await run.start(n);
      await run.declare(plans(30, 70), seconds);
      // The first slots must be due, or there is nothing to be frozen at.
      await run.rest(4);
      let fenced = 0;
      for (let n = 0; n < freezes; n++)
        fenced += await freezeLeader(run, n % 3 === 2 ? 'writing' : 'placing');
      const in_time = run.left() > 0;
      const books = await run.settle();
      say(`${freezes} leaders frozen, ${fenced} writes refused; ${books.in_ledger} of ${books.due} slots`);
      return verdictOn(books, {
        most_lateness_seconds: term_seconds + idle_seconds + 2,
        happened: {
          'a thawed leader tried to write': fenced > 0,
          'each freeze began a new term': books.terms > freezes,
          'slots were due all the while': in_time,
        },
        figures: { seconds, freezes, fenced },
      });
    } finally {
      await run.close();
    }
  },
};
