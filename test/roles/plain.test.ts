// A feature that a job does not use costs it no statement: every statement between its submit and its end is seen and named.
import assert from 'node:assert/strict';
import { after, before, mock, test } from 'node:test';
import pg from 'pg';
import { defineHandler, type HandlerContext } from '../../src/errand.ts';
import { extendLeases, findHeads, listHeads, promoteDue } from '../../src/store/claims.ts';
import { findAbandoned, lowestLease } from '../../src/store/endings.ts';
import { dueToExpire } from '../../src/store/jobs.ts';
import { readTurn } from '../../src/store/levers.ts';
import { notify } from '../../src/store/listen.ts';
import { nextDue, takeDue } from '../../src/store/operations.ts';
import { addPartition, lockPartitions, partitionEdge } from '../../src/store/partitions.ts';
import { enroll } from '../../src/store/roster.ts';
import { ping } from '../../src/store/soundness.ts';
import { writeTallies } from '../../src/store/tallies.ts';
import { aSubmission, startErrand, type TestErrand } from '../support/errand.ts';

const jobs = 200;

let errand: TestErrand;
let run: (context: HandlerContext) => unknown = () => {};

before(async () => {
  const handler = defineHandler({ type: 'work', run: (_, context) => run(context) });
  errand = await startErrand({ env: { ERRAND_ROLES: 'api,worker' }, handlers: [handler] });
  await through(1);
});

after(() => errand.stop());

// What time brings, not jobs.
const anyway: ReadonlySet<string> = new Set([
  ...[listHeads, findHeads, promoteDue, findAbandoned, lowestLease, dueToExpire, extendLeases].map(
    (one) => one.text,
  ),
  ...[ping, writeTallies, readTurn, takeDue, nextDue, enroll].map((one) => one.text),
  ...[lockPartitions, partitionEdge, addPartition].map((one) => one.text),
  ...['begin', 'commit'],
]);

test('plain jobs are taken in, claimed and ended, and no statement but that runs for them', async () => {
  const seen = await statementsOf(() => through(jobs));
  assert.deepEqual([...seen.keys()].toSorted(), ['claim', 'insert_alike', 'notify', 'settle_succeeded']);
  assert.ok((seen.get('insert_alike') ?? jobs) < jobs / 10, `${seen.get('insert_alike')} inserts`);
});

test('each feature is seen by the statement that it costs', async () => {
  run = (context) => context.progress(1);
  const progress = await statementsOf(() => through(1));
  assert.ok(progress.has('write_progress'));
  run = () => {
    throw new Error('fails');
  };
  const failed = await statementsOf(() => through(1, { max_attempts: 1 }));
  assert.ok(failed.has('settle_any'));
  run = () => {};
  assert.ok((await statementsOf(() => through(1, { tags: ['a'] }))).has('insert_full'));
});

/** Submits jobs at once and waits until all of them have ended. */
async function through(count: number, over: Parameters<typeof aSubmission>[0] = {}): Promise<void> {
  const open = new Set<string>();
  const { promise: allEnded, resolve } = Promise.withResolvers<void>();
  let submitted = 0;
  const look = () => submitted === count && open.size === 0 && resolve();
  const ended = new Set<string>();
  const off = errand.events.on('job.ended', ({ job_id }) => {
    ended.add(job_id);
    open.delete(job_id);
    look();
  });
  await Promise.all(
    Array.from({ length: count }, async () => {
      const { id } = await errand.actions.submit(aSubmission(over));
      submitted++;
      if (!ended.has(id)) open.add(id);
    }),
  );
  look();
  await allEnded;
  off();
}

/** What runs meanwhile, by its name where it has one, and how often. */
async function statementsOf(work: () => Promise<void>): Promise<Map<string, number>> {
  const seen = new Map<string, number>();
  const query = pg.Client.prototype.query;
  const spy = mock.method(pg.Client.prototype, 'query', function (this: pg.Client, ...words: unknown[]) {
    const [first] = words as [string | { text: string; name?: string }];
    const { text, name } = typeof first === 'string' ? { text: first, name: undefined } : first;
    if (!anyway.has(text)) {
      const known = text === notify.text ? 'notify' : (name ?? text);
      seen.set(known, (seen.get(known) ?? 0) + 1);
    }
    return Reflect.apply(query, this, words);
  });
  try {
    await work();
  } finally {
    spy.mock.restore();
  }
  return seen;
}
