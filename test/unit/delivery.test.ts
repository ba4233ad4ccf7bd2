// Proves that the delivery check of the bench refuses what a queue may get wrong.
// Next room: test/system/race.test.ts, which plants the same in whole processes.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { checkDelivery } from '../../bench/delivery.ts';

const ids = ['a', 'b', 'c'];

test('Each job once, and all finished: there is a figure', () => {
  assert.doesNotThrow(() => checkDelivery('x', { enqueued: 3, ids, finished: 3 }));
  assert.doesNotThrow(() => checkDelivery('x', { enqueued: 3, ids: ids.toReversed() }));
});

test('A double delivery leaves no figure', () => {
  assert.throws(
    () => checkDelivery('x', { enqueued: 3, ids: [...ids, 'b'] }),
    /delivered 4, unique 3.*no figure/,
  );
});

test('A lost job leaves no figure', () => {
  assert.throws(
    () => checkDelivery('x', { enqueued: 3, ids: ['a', 'b'] }),
    /delivered 2, unique 2.*no figure/,
  );
});

test('A double that makes up for a lost job in the count leaves no figure', () => {
  assert.throws(() => checkDelivery('x', { enqueued: 3, ids: ['a', 'b', 'b'] }), /delivered 3, unique 2/);
});

test('A job that ran but is not called finished leaves no figure', () => {
  assert.throws(() => checkDelivery('x', { enqueued: 3, ids, finished: 2 }), /finished 2/);
});
