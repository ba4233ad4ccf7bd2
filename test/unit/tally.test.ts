// What a process has counted is written once, also by one that stood still for so long that others have folded its rows.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Tally } from '../../src/actions/tally.ts';
import { EventBus } from '../../src/events.ts';
import type { Db } from '../../src/store/db.ts';
import { writeTallies } from '../../src/store/tallies.ts';

const begin_ms = Date.parse('2026-03-01T12:00:00Z');

/** A tally on a database whose clock is `clock.now_ms`, and the rows it wrote: when their stretch began, and how many arrived. */
async function aTally() {
  const clock = { now_ms: begin_ms, fails: false };
  const written: string[] = [];
  const one = async (statement: unknown, [text]: readonly unknown[] = []) => {
    if (clock.fails) throw new Error('away');
    if (statement === writeTallies) {
      for (const { slot, arrived, wait } of JSON.parse(text as string))
        written.push(`${slot} ${arrived} waits ${wait.join(':')}`);
    }
    return { now_ms: clock.now_ms };
  };
  const events = new EventBus();
  const tally = new Tally({ db: { one } as unknown as Db, process: 1, events });
  await tally.learnTime();
  const job = { job_id: '1', lane: 1, queue: 'mail', type: 'send' };
  /** A job arrives and starts; its wait lies in bucket 5. */
  const arrive = () => {
    events.emit('job.submitted', { ...job, state: 'queued', replayed: false });
    events.emit('job.claimed', { ...job, epoch: 1, attempt: 1, wait_ms: 1.5 });
  };
  return { tally, clock, written, arrive };
}

test('a row is written with all that its stretch of time has seen', async () => {
  const { tally, written, arrive } = await aTally();
  arrive();
  await tally.flush();
  arrive();
  await tally.flush();
  await tally.flush();
  assert.deepEqual(written, ['2026-03-01T12:00:00.000Z 1 waits 5:1', '2026-03-01T12:00:00.000Z 2 waits 5:2']);
});

test('a row that others may have folded is not written again: what is new is told as of now', async () => {
  const { tally, clock, written, arrive } = await aTally();
  arrive();
  clock.now_ms = begin_ms + 200_000;
  await tally.flush();
  arrive();
  arrive();
  await tally.flush();
  arrive();
  await tally.flush();
  assert.deepEqual(written, [
    '2026-03-01T12:00:00.000Z 1 waits 5:1',
    '2026-03-01T12:03:20.000Z 2 waits 5:2',
    '2026-03-01T12:03:20.000Z 3 waits 5:3',
  ]);
});

test('a row of which nothing was written is written late', async () => {
  const { tally, clock, written, arrive } = await aTally();
  arrive();
  clock.fails = true;
  await assert.rejects(tally.flush(), /away/);
  clock.fails = false;
  clock.now_ms = begin_ms + 200_000;
  await tally.learnTime();
  await tally.flush();
  assert.deepEqual(written, ['2026-03-01T12:00:00.000Z 1 waits 5:1']);
});
