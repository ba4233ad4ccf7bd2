// What is rare is done at once; what is not is done once in a gap.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { Pace } from '../../src/domain/pace.ts';

test('a trickle waits for nothing', () => {
  const pace = new Pace(5, 4);
  for (const now of [0, 1, 21, 22, 40, 41, 60]) {
    assert.equal(pace.wait(now), 0);
    pace.take(now);
  }
});

test('after the burst a turn comes once in a gap, and a rest gives the burst back', () => {
  const pace = new Pace(5, 2);
  pace.take(0);
  pace.take(0);
  assert.equal(pace.wait(0), 5);
  assert.equal(pace.wait(3), 2);
  pace.take(5);
  assert.equal(pace.wait(5), 5);
  assert.equal(pace.wait(15), 0);
  pace.take(15);
  assert.equal(pace.wait(15), 0);
});

test('turns that were taken before their time cost one gap, not one for each', () => {
  const pace = new Pace(5, 2);
  for (let n = 0; n < 100; n++) pace.take(0);
  assert.equal(pace.wait(0), 5);
});

test('whenever it is asked, there are never more turns than the burst and one for each gap', () => {
  fc.assert(
    fc.property(fc.array(fc.double({ min: 0, max: 30, noNaN: true })), (pauses) => {
      const pace = new Pace(5, 3);
      const taken: number[] = [];
      let now = 0;
      for (const pause of pauses) {
        now += pause;
        if (pace.wait(now) > 0) continue;
        pace.take(now);
        taken.push(now);
      }
      taken.forEach((from, i) => {
        const within = taken.slice(i);
        within.forEach((to, n) => {
          assert.ok(n + 1 <= 3 + (to - from) / 5 + 1e-9);
        });
      });
    }),
  );
});
