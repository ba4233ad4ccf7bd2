// What firing leaves in the row of a schedule: where it stands, what it still has to do, and what is wrong with it.
import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import type { Pool } from '../../src/store/db.ts';
import { noteJob } from '../../src/store/schedules.ts';
import { lockSchedules, oldestDue } from '../../src/store/slots.ts';
import { sql } from '../../src/store/sql.ts';
import { cloneDatabase, poolOn, type TestDatabase } from '../support/postgres.ts';
import { dispatching, keepSchedule, ledgerOf } from '../support/schedules.ts';
import { until } from '../support/until.ts';

let database: TestDatabase;
let db: Pool;

before(async () => {
  database = await cloneDatabase();
  db = poolOn(database.url, 6);
});

after(async () => {
  await db.end();
  await database.drop();
});

beforeEach(() => db.many(sql`truncate errand.schedule, errand.slot, errand.leader`));

const row = sql<{
  watermark: Date;
  next_slot: Date;
  ahead: boolean;
  open_jobs: string[];
  stopping: string[];
  turn: number;
}>`
select watermark, next_slot, next_slot > watermark ahead, open_jobs, stopping, turn from errand.schedule where id = $1`;

test('a clock that went back fires nothing twice, and the next slot lies behind what is decided', async () => {
  const leader = await dispatching(db);
  const id = await keepSchedule(db, 'back', { behind_seconds: 5 });
  await leader.run();
  const fired = (await db.many(ledgerOf, [id])).length;
  // As if all of it had happened in an hour: the clock now shows what it did before.
  await db.many(sql`update errand.slot set slot = slot + interval '1 h'`);
  await db.many(
    sql`update errand.schedule set watermark = watermark + interval '1 h', next_due = errand.now()`,
  );
  const { watermark } = await db.one(row, [id]);
  await leader.run();
  const after = await db.one(row, [id]);
  assert.deepEqual(after.watermark, watermark);
  assert.equal(after.ahead, true);
  assert.equal((await db.many(ledgerOf, [id])).length, fired);
});

test('callers who fire a schedule by hand without end do not keep its slots from firing', async () => {
  const leader = await dispatching(db);
  const id = await keepSchedule(db, 'busy', { behind_seconds: 1 });
  const free = await keepSchedule(db, 'free', { behind_seconds: 1 });
  let over = false;
  let fired = 0;
  const byHand = async () => {
    while (!over) {
      await db.transaction(async (tx) => {
        await tx.many(sql`select id from errand.schedule where id = $1 for update`, [id]);
        await tx.many(noteJob, [id, String(++fired), 50]);
        await tx.many(sql`select pg_sleep(0.002)`);
      });
    }
  };
  const callers = [byHand(), byHand(), byHand()];
  await until(() => fired > 60);
  await until(async () => {
    await leader.run();
    return (await db.many(ledgerOf, [id])).length >= 2;
  });
  over = true;
  await Promise.all(callers);
  assert.ok((await db.many(ledgerOf, [free])).length >= 1);
  const { open_jobs } = await db.one(row, [id]);
  assert.equal(open_jobs.length, 50);
  assert.ok(open_jobs.includes(String(fired)), 'a job that a caller fired meanwhile was forgotten');
});

test('of the jobs a schedule has open the last fifty are remembered', async () => {
  const leader = await dispatching(db);
  const id = await keepSchedule(db, 'many', {
    definition: { max_lateness_seconds: 600 },
    behind_seconds: 120,
  });
  while ((await leader.run()) > 0);
  const jobs = (await db.many(ledgerOf, [id])).map(({ job_id }) => job_id as string);
  assert.ok(jobs.length >= 120);
  assert.deepEqual((await db.one(row, [id])).open_jobs, jobs.slice(-50));
});

test('jobs that are to stop are asked after their successor is made, and again by the next leader when nobody did', async () => {
  const leader = await dispatching(db, {
    cancel: { cancel: () => Promise.reject(new Error('away')) } as never,
    onError: () => {},
  });
  const definition = { every_seconds: 600, overlap: 'cancel_running', max_lateness_seconds: 600 } as const;
  const id = await keepSchedule(db, 'replacing', { definition, behind_seconds: 600 });
  await db.many(sql`update errand.schedule set open_jobs = '{424242}'`);
  await leader.run();
  const [made] = await db.many(ledgerOf, [id]);
  assert.deepEqual((await db.one(row, [id])).stopping, ['424242']);
  const next = await dispatching(db);
  await db.many(sql`update errand.schedule set next_due = errand.now()`);
  await next.run();
  await until(async () => (await db.one(row, [id])).stopping.length === 0);
  assert.deepEqual(next.cancelled, ['424242']);
  assert.ok((await db.one(row, [id])).open_jobs.includes(made?.job_id as string));
});

test('a schedule that cannot be fired is overdue for all to see until it is', async () => {
  const leader = await dispatching(db);
  const id = await keepSchedule(db, 'broken', { definition: { job: null as never }, behind_seconds: 200 });
  await db.many(sql`update errand.schedule set next_slot = watermark`);
  await leader.run();
  assert.deepEqual(leader.failed, ['broken']);
  assert.ok((await db.one(oldestDue)).seconds >= 200);
  await db.many(
    sql`update errand.schedule set next_due = errand.now(),
      definition = jsonb_set(definition, '{job}', '{"queue":"default","type":"x","priority":5,"max_attempts":1,"timeout_seconds":1}')`,
  );
  while ((await leader.run()) > 0);
  assert.equal((await db.one(oldestDue)).seconds, 0);
  assert.ok((await db.many(ledgerOf, [id])).length > 0);
});

test('a schedule whose slot waits for the end of a job is not overdue', async () => {
  await keepSchedule(db, 'waiting', { behind_seconds: 500 });
  await db.many(sql`update errand.schedule set held = watermark`);
  assert.equal((await db.one(oldestDue)).seconds, 0);
});

test('payloads are read of schedules that are fired, and of no other', async () => {
  const id = await keepSchedule(db, 'paused', { payload: '"x"' });
  const read = (fires: boolean) => db.one(lockSchedules, [[id], [1], [0], [fires]]);
  assert.equal((await read(false)).payload, null);
  assert.equal((await read(true)).payload, '"x"');
});
