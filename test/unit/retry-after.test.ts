// Proves when a caller is told to ask again: docs/contract.md, Retry-After.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { jobStates, terminalStates } from '../../src/domain/job.ts';
import { estimateOf, type Pace, type RetryAfterFacts } from '../../src/domain/retry-after.ts';

const now = new Date('2026-01-02T03:04:05Z');
const ago = (seconds: number) => new Date(now.getTime() - seconds * 1000);
const aJob = (facts: Partial<RetryAfterFacts>): RetryAfterFacts => ({
  state: 'queued',
  created_at: ago(0),
  run_at: null,
  started_at: null,
  ...facts,
});
const ask = (facts: Partial<RetryAfterFacts>, random = 0) =>
  estimateOf(aJob(facts), now, () => random)?.seconds ?? null;

test('a job at its end needs no further question', () => {
  for (const state of terminalStates) assert.equal(ask({ state }), null);
});

test('a queued job is asked for after 1, 2, 5 and 10 s by age', () => {
  assert.deepEqual(
    [0, 4, 5, 19, 20, 59, 60, 86_400].map((age) => ask({ created_at: ago(age) })),
    [1, 1, 2, 2, 5, 5, 10, 10],
  );
});

test('a running job is asked for by the age of its run', () => {
  assert.equal(ask({ state: 'running', created_at: ago(9999), started_at: ago(1) }), 1);
  assert.equal(ask({ state: 'running', created_at: ago(9999), started_at: ago(100) }), 10);
});

test('a scheduled or retrying job is asked for when it is due, at the latest in an hour', () => {
  for (const state of ['scheduled', 'retrying'] as const) {
    assert.deepEqual(
      [-5, 0, 0.2, 7.1, 90, 1e6].map((due) => ask({ state, run_at: ago(-due) })),
      [1, 1, 1, 8, 90, 3600],
    );
  }
});

test('the jitter adds whole seconds, up to a fifth', () => {
  assert.equal(ask({ state: 'retrying', run_at: ago(-100) }, 0.999), 120);
  assert.equal(ask({ created_at: ago(100) }, 0.999), 12);
  assert.equal(ask({ created_at: ago(30) }, 0.999), 6);
  assert.equal(ask({}, 0.999), 1);
});

test('every answer is a whole number of seconds within its bounds', () => {
  const state = fc.constantFrom(...jobStates);
  const offset = fc.integer({ min: -1e9, max: 1e9 });
  fc.assert(
    fc.property(
      state,
      offset,
      offset,
      fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
      (given, age, due, random) => {
        const told = ask(
          { state: given, created_at: ago(age), run_at: ago(due), started_at: ago(age) },
          random,
        );
        const most = given === 'scheduled' || given === 'retrying' ? 3600 : 60;
        assert.ok(told === null || (Number.isInteger(told) && told >= 1 && told <= most));
      },
    ),
  );
});

const aPace: Pace = { queued: 0, arrivals: 0, starts: 0, run_p50_ms: null, run_p90_ms: null };
const estimate = (facts: Partial<RetryAfterFacts>, pace: Partial<Pace>, isPaused = false) =>
  estimateOf(aJob(facts), now, () => 0, { pace: { ...aPace, ...pace }, isPaused });

test('a queued job is asked for when those before it have started and it has run', () => {
  const pace = { queued: 100, starts: 5, run_p50_ms: 1_500 };
  assert.deepEqual(estimate({}, pace), { seconds: 22, basis: 'line' });
  // Of those that wait, 4 have come in each of the 10 s since.
  assert.deepEqual(estimate({ created_at: ago(10) }, { ...pace, arrivals: 4 }), {
    seconds: 14,
    basis: 'line',
  });
  assert.deepEqual(estimate({}, { ...pace, queued: 1e9 }), { seconds: 60, basis: 'line' });
});

test('a running job is asked for when nine of ten have ended, and later the rarer', () => {
  const running = (elapsed: number) => ({ state: 'running', started_at: ago(elapsed) }) as const;
  assert.deepEqual(estimate(running(3), { run_p90_ms: 20_000 }), { seconds: 17, basis: 'run_time' });
  assert.deepEqual(estimate(running(40), { run_p90_ms: 20_000 }), { seconds: 10, basis: 'run_time' });
});

test('where nothing starts or has ended the age decides, and in a paused queue half a minute is said', () => {
  assert.deepEqual(estimate({ created_at: ago(30) }, { queued: 10 }), { seconds: 5, basis: 'age' });
  assert.deepEqual(estimate({ state: 'running', started_at: ago(1) }, {}), { seconds: 1, basis: 'age' });
  assert.deepEqual(estimate({}, { starts: 9 }, true), { seconds: 30, basis: 'paused' });
  assert.deepEqual(estimate({ state: 'retrying', run_at: ago(-7) }, {}, true), { seconds: 7, basis: 'due' });
});
