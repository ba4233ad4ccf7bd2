// The coalescer: what arrives during a flush is the next flush, everything is answered once, and nobody pays for a
// neighbour's fault.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Flush, type FlushOptions } from '../../src/store/flush.ts';

function aFlush(over: Partial<FlushOptions<number, number>> = {}) {
  const batches: number[][] = [];
  const flush = new Flush<number, number>({
    run: async (items) => {
      batches.push(items);
      return items.map((item) => item * 10);
    },
    inFlight: 1,
    max: 100,
    gapMs: 0,
    maxWaiting: 1_000,
    ...over,
  });
  return { flush, batches };
}

test('calls of one turn become one flush, answered in order', async () => {
  const { flush, batches } = aFlush();
  assert.deepEqual(await Promise.all([1, 2, 3].map((item) => flush.add(item))), [10, 20, 30]);
  assert.deepEqual(batches, [[1, 2, 3]]);
});

test('what arrives while a flush runs is the next flush', async () => {
  const gate = Promise.withResolvers<void>();
  const entered = Promise.withResolvers<void>();
  const batches: number[][] = [];
  const { flush } = aFlush({
    run: async (items) => {
      batches.push(items);
      entered.resolve();
      await gate.promise;
      return items;
    },
  });
  const first = flush.add(1);
  await entered.promise;
  const rest = [2, 3, 4].map((item) => flush.add(item));
  gate.resolve();
  assert.deepEqual(await Promise.all([first, ...rest]), [1, 2, 3, 4]);
  assert.deepEqual(batches, [[1], [2, 3, 4]]);
});

test('the next flush begins before the callers of the last one are answered', async () => {
  const order: string[] = [];
  const gate = Promise.withResolvers<void>();
  const entered = Promise.withResolvers<void>();
  const { flush } = aFlush({
    run: async ([item]) => {
      order.push(`run ${item}`);
      entered.resolve();
      await gate.promise;
      return [0];
    },
  });
  const first = flush.add(1).then(() => order.push('answer 1'));
  await entered.promise;
  const second = flush.add(2).then(() => order.push('answer 2'));
  gate.resolve();
  await Promise.all([first, second]);
  assert.ok(order.indexOf('run 2') < order.indexOf('answer 1'), order.join(', '));
});

test('refuses what exceeds its bound at once', async () => {
  const { flush } = aFlush({ maxWaiting: 2 });
  const adds = [1, 2, 3].map((item) => flush.add(item));
  await assert.rejects(adds[2] as Promise<number>, { slug: 'queue-saturated' });
  assert.deepEqual(await Promise.all(adds.slice(0, 2)), [10, 20]);
});

test('repeats a failed flush one by one when the fault was one item’s', async () => {
  const { flush } = aFlush({
    run: async (items) => {
      if (items.includes(2)) throw new Error('item 2 is bad');
      return items;
    },
    splits: () => true,
  });
  const results = await Promise.allSettled([1, 2, 3].map((item) => flush.add(item)));
  assert.deepEqual(
    results.map((result) => result.status),
    ['fulfilled', 'rejected', 'fulfilled'],
  );
});

test('fails all together when the fault was nobody’s', async () => {
  const { flush, batches } = aFlush({
    run: async () => {
      throw new Error('the database is away');
    },
    splits: () => false,
  });
  const results = await Promise.allSettled([1, 2].map((item) => flush.add(item)));
  assert.deepEqual(
    results.map((result) => result.status),
    ['rejected', 'rejected'],
  );
  assert.equal(batches.length, 0);
});

test('overtakes a flush that is stuck, and only then', async () => {
  const gate = Promise.withResolvers<void>();
  const batches: number[][] = [];
  const { flush } = aFlush({
    inFlight: 2,
    overtakeMs: 30,
    run: async (items) => {
      batches.push(items);
      if (items.includes(1)) await gate.promise;
      return items;
    },
  });
  const stuck = flush.add(1);
  while (batches.length === 0) await new Promise((resolve) => setImmediate(resolve));
  const began = performance.now();
  assert.deepEqual(await Promise.all([flush.add(2), flush.add(3)]), [2, 3]);
  assert.ok(performance.now() - began > 15, 'it did not wait for the flush under way');
  assert.deepEqual(batches, [[1], [2, 3]]);
  gate.resolve();
  assert.equal(await stuck, 1);
});

test('takes no more than its most into one flush', async () => {
  const { flush, batches } = aFlush({ max: 2 });
  await Promise.all([1, 2, 3, 4, 5].map((item) => flush.add(item)));
  assert.deepEqual(
    batches.map((batch) => batch.length),
    [2, 2, 1],
  );
});

/** A flush of one item at a time, whose first one is held until `open`; it has begun. */
async function held(over: Partial<FlushOptions<number, number>>) {
  const gate = Promise.withResolvers<void>();
  const entered = Promise.withResolvers<void>();
  const { flush } = aFlush({
    max: 1,
    run: async (items) => {
      entered.resolve();
      if (items.includes(1)) await gate.promise;
      return items;
    },
    ...over,
  });
  const first = flush.add(1);
  await entered.promise;
  return { flush, first, open: () => gate.resolve() };
}

test('refuses who has waited too long, though no flush ends', async () => {
  const { flush, first, open } = await held({ patienceMs: 50 });
  await assert.rejects(flush.add(2), { slug: 'queue-saturated', headers: { 'retry-after': '1' } });
  open();
  assert.equal(await first, 1);
});

test('refuses newcomers at once while all flushes are stuck, and takes them when one has ended', async () => {
  const { flush, first, open } = await held({ patienceMs: 50 });
  await assert.rejects(flush.add(2), { slug: 'queue-saturated' });
  let refused = false;
  flush.add(3).catch(() => {
    refused = true;
  });
  await Promise.resolve();
  await Promise.resolve();
  assert.ok(refused, 'it was made to wait');
  assert.equal(flush.waiting, 0);
  open();
  assert.equal(await first, 1);
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(await flush.add(4), 4);
});
