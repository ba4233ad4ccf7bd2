// Proves that a wait grows as its policy says and never leaves its bounds.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Backoff, backoffDelayMs, defaultBackoff } from '../../src/domain/backoff.ts';

const waits = (policy: object, attempts = [1, 2, 3, 4], random = () => 0.5) =>
  attempts.map((attempt) => backoffDelayMs(Backoff.parse(policy), attempt, random));

test('the default doubles from 2 s to 900 s', () => {
  const most = () => 1 - Number.EPSILON;
  const all = [1, 2, 3, 9, 10, 11, 100, 5000].map((attempt) => backoffDelayMs(defaultBackoff, attempt, most));
  assert.deepEqual(all, [2000, 4000, 8000, 512_000, 900_000, 900_000, 900_000, 900_000]);
});

test('an empty policy is the default one', () => {
  for (const attempt of [1, 5, 50]) {
    assert.equal(
      waits({}, [attempt])[0],
      backoffDelayMs(defaultBackoff, attempt, () => 0.5),
    );
  }
});

test('each strategy grows in its own way', () => {
  assert.deepEqual(waits({ jitter: 'none' }), [2000, 4000, 8000, 16_000]);
  assert.deepEqual(
    waits({ strategy: 'linear', base_seconds: 3, jitter: 'none' }),
    [3000, 6000, 9000, 12_000],
  );
  assert.deepEqual(
    waits({ strategy: 'linear', base_seconds: 3, cap_seconds: 7, jitter: 'none' }),
    [3000, 6000, 7000, 7000],
  );
  assert.deepEqual(waits({ strategy: 'fixed', base_seconds: 1.5, jitter: 'none' }), [1500, 1500, 1500, 1500]);
});

test('a list waits exactly as listed, beyond the cap too, and repeats its last wait', () => {
  assert.deepEqual(
    waits({ strategy: 'list', delays_seconds: [5, 60, 3600] }),
    [5000, 60_000, 3_600_000, 3_600_000],
  );
  assert.deepEqual(
    waits({ strategy: 'list', delays_seconds: [5], jitter: 'full' }),
    [2500, 2500, 2500, 2500],
  );
});

test('jitter takes all of the wait, half of it or none', () => {
  const fixed = { strategy: 'fixed', base_seconds: 10 };
  assert.deepEqual(
    waits(fixed, [1], () => 0),
    [0],
  );
  assert.deepEqual(
    waits({ ...fixed, jitter: 'equal' }, [1], () => 0),
    [5000],
  );
  assert.deepEqual(
    waits({ ...fixed, jitter: 'equal' }, [1], () => 0.5),
    [7500],
  );
  assert.deepEqual(
    waits({ ...fixed, jitter: 'none' }, [1], () => 0),
    [10_000],
  );
});

test('no policy, attempt or chance leaves the bounds or gives a fraction', () => {
  const growing = fc.record({
    strategy: fc.constantFrom('exponential' as const, 'linear' as const, 'fixed' as const),
    base_seconds: fc.double({ min: 0, max: 900, noNaN: true }),
    cap_seconds: fc.double({ min: 900, max: 604_800, noNaN: true }),
    jitter: fc.constantFrom('full' as const, 'equal' as const, 'none' as const),
  });
  const chance = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });
  fc.assert(
    fc.property(growing, fc.integer({ min: 1, max: 100_000 }), chance, (policy, attempt, random) => {
      const wait = backoffDelayMs(policy, attempt, () => random);
      assert.ok(Number.isSafeInteger(wait) && wait >= 0 && wait <= Math.round(policy.cap_seconds * 1000));
    }),
  );
});

test('a policy that contradicts itself or leaves the limits is refused', () => {
  const bad = [
    { strategy: 'list' },
    { strategy: 'list', delays_seconds: [] },
    { delays_seconds: [1] },
    { base_seconds: 3600 },
    { base_seconds: -1 },
    { base_seconds: '2' },
    { cap_seconds: 1e9 },
    { cap_seconds: Number.NaN },
    { strategy: 'random' },
    { jitter: null },
    { unknown: 1 },
  ];
  for (const policy of bad) assert.equal(Backoff.safeParse(policy).success, false, JSON.stringify(policy));
});
