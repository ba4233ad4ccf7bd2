// Figures come from memory for as many queues as it has room for; those that were asked for last have it.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { most_watched, Statistics } from '../../src/actions/statistics.ts';
import { keptStates } from '../../src/domain/tally.ts';
import type { Db } from '../../src/store/db.ts';
import { readDepths } from '../../src/store/tallies.ts';

/** A database in which every queue has one lane with three ready jobs; it notes which depths were read. */
function aStatistics() {
  const asked: string[][] = [];
  const none = Object.fromEntries(keptStates.map((state) => [state, 0]));
  const lane = (queue: string) => ({
    ...{
      ...none,
      queue,
      route: 'work',
      lane: 1,
      queued: 3,
      oldest_age_ms: 5,
      arrived: 3,
      started: 0,
      ended: 0,
    },
  });
  const many = async (statement: unknown, [queues]: readonly unknown[] = []) => {
    if (statement !== readDepths) return [];
    asked.push(queues as string[]);
    return (queues as string[]).map(lane);
  };
  const db = { many } as unknown as Pick<Db, 'many'>;
  return { statistics: new Statistics({ db, tally: { queuedBy: () => 0 } }), asked };
}

test('who asks again costs no statement', async () => {
  const { statistics, asked } = aStatistics();
  for (let n = 0; n < 3; n++) assert.equal((await statistics.of('mail')).depth.queued, 3);
  await Promise.all([statistics.of('post'), statistics.of('post'), statistics.ofType('post', 'work')]);
  assert.deepEqual(asked, [['mail'], ['post']]);
});

test('a queue that is asked for when memory is full takes the place of the one that was not for the longest', async () => {
  const { statistics, asked } = aStatistics();
  for (let n = 0; n < most_watched; n++) await statistics.line(`q${n}`);
  assert.equal((await statistics.ofType('mail', 'work')).depth.queued, 3);
  assert.notEqual(statistics.peek('mail'), undefined);
  assert.notEqual(statistics.peek('q1'), undefined);
  asked.length = 0;
  await statistics.refresh();
  assert.equal(asked.at(0)?.length, most_watched);
  assert.equal(statistics.peek('q0'), undefined);
});
