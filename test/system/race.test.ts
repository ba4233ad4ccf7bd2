// Proves end to end that no figure comes of a system that delivers twice or not at all: whole processes, real store.
// Next room: bench/race.ts.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { race } from '../../bench/race.ts';
import { cloneDatabase } from '../support/postgres.ts';

const jobs = 400;

async function raceOf(contestant: string): Promise<number[]> {
  const database = await cloneDatabase();
  try {
    return await race(contestant, database.url, jobs);
  } finally {
    await database.drop();
  }
}

test('Four partial claimers in two processes deliver each job once', async () => {
  const shares = await raceOf('errand');
  assert.equal(
    shares.reduce((sum, share) => sum + share, 0),
    jobs,
  );
});

test('A planted double delivery is refused by the check', async () => {
  await assert.rejects(raceOf('doubling'), /enqueued 400, delivered 40[1-4], unique 400, .*no figure/);
});

test('A planted loss is refused by the check', async () => {
  await assert.rejects(raceOf('losing'), /enqueued 400, delivered 39[6-9], .*finished 400; no figure/);
});
