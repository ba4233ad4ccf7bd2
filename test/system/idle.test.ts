// A process that has nothing to do is quiet: its polls are a floor under the hints, not a load.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import pg from 'pg';
import { defineHandler } from '../../src/errand.ts';
import { aSubmission, startErrand } from '../support/errand.ts';

// A process that leads asks six times a second: for due jobs, lost leases, ready heads, due slots, levers, and whether the
// database is there. Every two seconds for jobs to expire, every three it renews its term, every ten it sees to partitions and
// to the ledger. That is 42 to 48 in 6 s, and pauses vary by 5 %.
test('an idle process with all roles asks the database at most nine times a second', async () => {
  const errand = await startErrand({ handlers: [defineHandler({ type: 'served', run: () => 1 })] });
  let asked = 0;
  const { query } = pg.Client.prototype;
  try {
    await errand.actions.submit(aSubmission({ type: 'served' }));
    for (let n = 0; n < 50; n++) await errand.actions.submit(aSubmission({ type: `unserved-${n}` }));
    await errand.actions.submit(aSubmission({ type: 'unserved', delay_ms: 3_600_000 }));
    await pause(1_000);
    pg.Client.prototype.query = function (this: pg.Client, ...words: unknown[]) {
      const [first] = words as [string | { text: string }];
      const text = typeof first === 'string' ? first : first.text;
      if (text !== 'begin' && text !== 'commit') asked++;
      return (query as (...all: unknown[]) => unknown).apply(this, words);
    } as typeof query;
    await pause(6_000);
  } finally {
    pg.Client.prototype.query = query;
    await errand.stop();
  }
  assert.ok(asked > 6, `only ${asked} queries were seen: the test counted nothing`);
  assert.ok(asked <= 54, `${asked} queries in 6 s`);
});
