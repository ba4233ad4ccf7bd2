// Turns at the database: so many at once, the others in a line that is bounded in length and in time.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Line } from '../../src/store/line.ts';
import { Turns } from '../../src/store/turns.ts';

/** Work that takes its turn and keeps it until it is let go. */
function keeping(turns: Turns) {
  const gate = Promise.withResolvers<void>();
  const entered = Promise.withResolvers<void>();
  const done = turns.run(async () => {
    entered.resolve();
    await gate.promise;
  });
  return { entered: entered.promise, done, letGo: () => gate.resolve() };
}

test('gives so many turns at once, and the next in the order of arrival', async () => {
  const turns = new Turns(2, 10);
  const first = keeping(turns);
  const second = keeping(turns);
  await Promise.all([first.entered, second.entered]);
  const order: number[] = [];
  const rest = [1, 2, 3].map((n) => turns.run(async () => order.push(n)));
  assert.equal(turns.waiting, 3);
  second.letGo();
  await Promise.all(rest);
  assert.deepEqual(order, [1, 2, 3]);
  first.letGo();
  await Promise.all([first.done, second.done]);
});

test('gives a turn back that ended with an error', async () => {
  const turns = new Turns(1, 10);
  await assert.rejects(
    turns.run(() => Promise.reject(new Error('no'))),
    { message: 'no' },
  );
  assert.equal(await turns.run(async () => 1), 1);
});

test('refuses who finds the line full', async () => {
  const turns = new Turns(1, 1);
  const first = keeping(turns);
  const second = turns.run(async () => 2);
  await assert.rejects(
    turns.run(async () => 3),
    { slug: 'queue-saturated', headers: { 'retry-after': '1' } },
  );
  first.letGo();
  assert.equal(await second, 2);
});

test('refuses who waits while nobody gives a turn back, and whoever comes then at once', async () => {
  const turns = new Turns(1, 10);
  const first = keeping(turns);
  await assert.rejects(
    turns.run(async () => 2),
    { slug: 'queue-saturated' },
  );
  const began = performance.now();
  await assert.rejects(
    turns.run(async () => 3),
    { slug: 'queue-saturated' },
  );
  assert.ok(performance.now() - began < 400, 'it was made to wait');
  first.letGo();
  await first.done;
  assert.equal(await turns.run(async () => 4), 4);
});

test('who has not waited too long keeps its place behind those who have, in a line that moves', async () => {
  const line = new Line<{ name: string; since: number; reject(error: unknown): void }>(10);
  const refused: string[] = [];
  const one = (name: string, since: number) => ({ name, since, reject: () => refused.push(name) });
  line.join(one('late', performance.now() - 60_000));
  line.join(one('fresh', performance.now() + 60_000));
  while (refused.length === 0) {
    line.moved();
    await new Promise((resolve) => setImmediate(resolve));
  }
  assert.deepEqual(refused, ['late']);
  assert.deepEqual(
    line.take(10).map(({ name }) => name),
    ['fresh'],
  );
});
