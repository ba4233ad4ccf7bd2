// A job that kills its worker, against real processes that die of it.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { poisonRun } from '../support/poison.ts';

test('a job that kills its worker is buried after three losses, and all that was leased with it succeeds', async () => {
  const { jobs, deaths } = await poisonRun({ healthy: 58, poison: 2, workers: 2, timeoutMs: 60_000 });
  for (const job of jobs.filter(({ poison }) => poison)) {
    assert.deepEqual([job.state, job.class, job.starts, job.lost], ['dead', 'poison', 3, 2]);
  }
  const others = jobs.filter(({ poison }) => !poison);
  assert.equal(others.length, 58);
  assert.ok(others.every(({ state, ends }) => state === 'succeeded' && ends === 1));
  assert.ok(
    others.some(({ lost }) => lost > 0),
    'neighbours were lost with it',
  );
  assert.ok(deaths >= 4, `${deaths} workers died`);
});

test('a job of one attempt whose worker dies is dead, class lost, and never run again', async () => {
  const { jobs } = await poisonRun({ healthy: 0, poison: 1, workers: 1, max_attempts: 1, timeoutMs: 30_000 });
  const wanted = { poison: true, state: 'dead', class: 'lost', lost: 0, starts: 1, ends: 1 };
  assert.deepEqual(jobs, [wanted]);
});
