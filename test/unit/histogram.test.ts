// What is read off a histogram is as near to the truth as its buckets are narrow, and no rate is told before it is known.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { drainOf, keep, rateOf, type Sample } from '../../src/domain/flow.ts';
import {
  addTo,
  boundOf,
  bucketOf,
  buckets,
  emptyHistogram,
  quantile,
  sparse,
} from '../../src/domain/histogram.ts';

test('a time lies in its bucket, and no bucket is wider than 9.1 percent', () => {
  fc.assert(
    fc.property(fc.double({ min: 1, max: 2 ** 29, noNaN: true }), (ms) => {
      const bucket = bucketOf(ms);
      assert.ok(boundOf(bucket - 1) <= ms * 1.000001 && ms <= boundOf(bucket) * 1.000001);
      assert.ok(boundOf(bucket) / boundOf(bucket - 1) < 1.091);
    }),
  );
  for (const ms of [0, -1, 0.5, Number.NaN]) assert.equal(bucketOf(ms), 0);
  assert.equal(bucketOf(Number.MAX_VALUE), buckets - 1);
});

test('a quantile is within the width of a bucket of the one of the values themselves', () => {
  const times = fc.array(fc.double({ min: 1, max: 1e7, noNaN: true }), { minLength: 1, maxLength: 300 });
  fc.assert(
    fc.property(times, fc.constantFrom(0.5, 0.9, 0.95, 0.99), (values, q) => {
      const histogram = emptyHistogram();
      for (const value of values) (histogram[bucketOf(value)] as number)++;
      const truth = values.toSorted((a, b) => a - b)[Math.max(1, Math.ceil(q * values.length)) - 1] as number;
      const told = quantile(histogram, q) as number;
      assert.ok(Math.abs(told / truth - 1) <= 0.0906, `${told}, not ${truth}`);
    }),
  );
  assert.equal(quantile(emptyHistogram(), 0.5), null);
});

test('what is stored adds up to what was counted', () => {
  const counts = fc.array(fc.nat({ max: buckets - 1 }), { maxLength: 50 });
  fc.assert(
    fc.property(counts, counts, (one, other) => {
      const [a, b, both] = [emptyHistogram(), emptyHistogram(), emptyHistogram()];
      for (const at of one) (a[at] as number)++;
      for (const at of other) (b[at] as number)++;
      for (const at of [...one, ...other]) (both[at] as number)++;
      const sum = emptyHistogram();
      addTo(sum, sparse(a));
      addTo(sum, sparse(b));
      assert.deepEqual(sum, both);
    }),
  );
});

/** A minute of samples, one each second: so many arrived and started each second. */
function samples(rates: (second: number) => { in: number; out: number }): Sample[] {
  const kept: Sample[] = [];
  let [queued, arrived, started] = [1_000, 0, 0];
  for (let second = 0; second <= 90; second++) {
    keep(kept, { at: second * 1_000, queued, arrived, started, ended: started });
    const { in: come, out } = rates(second);
    queued += come - out;
    arrived += come;
    started += out;
  }
  return kept;
}

test('a rate follows a change within seconds where much happens, and takes its time where little does', () => {
  assert.equal(
    rateOf(
      samples((s) => ({ in: 0, out: s < 85 ? 0 : 100 })),
      'started',
    ),
    100,
  );
  const rare = rateOf(
    samples((s) => ({ in: 0, out: s % 10 === 0 ? 1 : 0 })),
    'started',
  );
  assert.ok(Math.abs(rare - 0.1) < 0.02, `${rare}`);
  assert.equal(rateOf([], 'ended'), 0);
});

test('where much happened and nothing does any more, that is told within seconds', () => {
  const stopped = (after_s: number) =>
    samples((s) => ({ in: s < 90 - after_s ? 100 : 0, out: s < 90 - after_s ? 100 : 0 }));
  for (const after_s of [5, 10, 20, 40]) assert.equal(rateOf(stopped(after_s), 'started'), 0, `${after_s} s`);
  assert.equal(drainOf(stopped(10), 60_000).out, 0);
});

test('of a queue that was closed only what still comes in counts', () => {
  const closed = samples((s) => ({ in: s < 80 ? 500 : 10, out: 100 }));
  assert.deepEqual(drainOf(closed, 80_000), { out: 100, in: 10 });
  assert.deepEqual(drainOf(closed, 90_000), { out: 100, in: 0 });
});

test('what came before a queue was closed and is told of later does not count as coming in', () => {
  const closed = samples((s) => ({ in: s < 81 ? 500 : 10, out: 100 }));
  assert.deepEqual(drainOf(closed, 80_000), { out: 100, in: 10 });
});
