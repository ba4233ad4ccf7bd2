// Firing on a real database: each slot once, under the term, and nobody's fault is his neighbour's.
import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { leading } from '../../src/actions/lead.ts';
import type { Pool } from '../../src/store/db.ts';
import { findJobs } from '../../src/store/jobs.ts';
import { sql } from '../../src/store/sql.ts';
import { cloneDatabase, poolOn, type TestDatabase } from '../support/postgres.ts';
import { dispatching, keepSchedule, ledgerOf } from '../support/schedules.ts';

let database: TestDatabase;
let db: Pool;

before(async () => {
  database = await cloneDatabase();
  db = poolOn(database.url, 4);
});

after(async () => {
  await db.end();
  await database.drop();
});

beforeEach(() => db.many(sql`truncate errand.schedule, errand.slot, errand.leader`));

test('each slot that is due becomes one job, with a row that names both and the term', async () => {
  const leader = await dispatching(db);
  const id = await keepSchedule(db, 'hourly', {
    definition: {
      every_seconds: 10,
      job: {
        queue: 'reports',
        type: 'report',
        priority: 2,
        max_attempts: 3,
        timeout_seconds: 7,
        tags: ['a'],
        target: { url: 'https://example.com/', method: 'PUT' },
      },
    },
    payload: '{ "n": 1e400 }',
    behind_seconds: 35,
  });
  assert.equal(await leader.run(), 1);
  const rows = await db.many(ledgerOf, [id]);
  assert.ok(rows.length === 3 || rows.length === 4, `${rows.length} slots in 35 s`);
  const jobs = await db.many(findJobs, [rows.map(({ job_id }) => job_id)]);
  assert.equal(new Set(jobs.map((job) => job.id)).size, rows.length);
  for (const [i, row] of rows.entries()) {
    assert.equal(row.term, leader.term);
    assert.ok(['on_time', 'late'].includes(row.outcome));
    assert.equal(row.slot.getTime() % 10_000, 0);
    const job = jobs.find(({ id }) => id === row.job_id);
    assert.deepEqual(job?.options?.schedule, { name: 'hourly', slot: row.slot.toISOString() });
    assert.deepEqual(
      [job?.priority, job?.max_attempts, job?.timeout_seconds, job?.tags, job?.options?.type],
      [2, 3, 7, ['a'], 'report'],
    );
    if (i > 0) assert.equal(row.slot.getTime() - (rows[i - 1]?.slot.getTime() ?? 0), 10_000);
  }
  const { payload } = await db.one(sql<{ payload: string }>`select min(payload) payload from errand.job`);
  assert.equal(payload, '{ "n": 1e400 }');
  assert.deepEqual(
    leader.decided.map(({ job_id }) => job_id),
    rows.map(({ job_id }) => job_id),
  );
  assert.equal(await leader.run(), 0, 'a second look finds nothing');
});

test('two that both believe they lead fire each slot once', async () => {
  const [one, other] = [await dispatching(db), await dispatching(db)];
  const ids: number[] = [];
  let passedOver = 0;
  for (let round = 0; round < 50 && passedOver < 3; round++) {
    ids.push(await keepSchedule(db, `s${round}`, { behind_seconds: 20 }));
    const results = await Promise.all([one.chore.run(true), other.chore.run(true)]);
    // Both had found it due, and one came too late to write it.
    if (results.some(({ moved, again_ms }) => moved === 0 && again_ms === 50)) passedOver++;
  }
  assert.ok(passedOver >= 3, 'they were never at the same schedule');
  const { jobs } = await db.one(sql<{ jobs: number }>`
    select count(*)::int jobs from errand.job where options -> 'schedule' ->> 'name' ~ '^s[0-9]+$'`);
  const ledgers = await Promise.all(ids.map((id) => db.many(ledgerOf, [id])));
  assert.equal(ledgers.flat().length, jobs);
  for (const rows of ledgers) {
    const first = rows[0]?.slot.getTime() ?? 0;
    assert.deepEqual(
      rows.map(({ slot }) => slot.getTime()),
      rows.map((_, n) => first + n * 1_000),
    );
  }
});

test('who lost the term writes nothing and is told', async () => {
  const stale = await dispatching(db);
  const id = await keepSchedule(db, 'guarded', { behind_seconds: 5 });
  await db.many(sql`update errand.leader set term = term + 1, holder = 'other'`);
  const before = await db.one(sql`select * from errand.schedule`);
  assert.equal(await stale.run(), 0);
  assert.deepEqual(stale.fenced, [stale.term]);
  assert.deepEqual(await db.many(ledgerOf, [id]), []);
  assert.deepEqual(await db.one(sql`select * from errand.schedule`), before);
});

test('a term that ran out is over even if nobody else has begun one', async () => {
  const stale = await dispatching(db);
  const id = await keepSchedule(db, 'guarded', { behind_seconds: 5 });
  await db.many(sql`update errand.leader set until = clock_timestamp()`);
  assert.equal(await stale.run(), 0);
  assert.deepEqual(await db.many(ledgerOf, [id]), []);
});

test('nobody begins a term while one is being acted in, and a renewal does not wait for that', async () => {
  const lead = leading({ db, holder: 'first', term_ms: 60_000 });
  const term = (await lead.campaign()) as string;
  let rival: Promise<unknown> | undefined;
  await db.transaction(async (tx) => {
    await tx.many(sql`select term from errand.leader where room = 'dispatcher' for key share`);
    assert.equal(await lead.renew(term), true);
    await lead.resign(term);
    let begun = false;
    rival = leading({ db, holder: 'second', term_ms: 60_000 })
      .campaign()
      .then((next) => {
        begun = true;
        return next;
      });
    // The lock view shows that it has come as far as waiting.
    for (let waits = 0; waits === 0; ) {
      const row = await tx.one(sql<{ n: number }>`select count(*)::int n from pg_locks where not granted`);
      waits = row.n;
    }
    assert.equal(begun, false);
  });
  assert.equal(await rival, String(Number(term) + 1));
});

test('a term that would last longer than any renewal makes it, as a clock that went back leaves it, keeps nobody out', async () => {
  const dead = leading({ db, holder: 'dead', term_ms: 60_000 });
  assert.equal(await dead.campaign(), '1');
  const heir = leading({ db, holder: 'heir', term_ms: 60_000 });
  assert.equal(await heir.campaign(), null);
  await db.many(sql`update errand.leader set until = until + interval '5 min'`);
  assert.equal((await heir.leader())?.is_free, true);
  assert.equal(await heir.campaign(), '2');
  assert.equal(await dead.renew('1'), false);
});

test('a schedule that cannot be judged waits, and its neighbours are fired', async () => {
  const leader = await dispatching(db);
  const broken = await keepSchedule(db, 'broken', {
    definition: { job: null as never },
    behind_seconds: 5,
  });
  const sound = await keepSchedule(db, 'sound', { behind_seconds: 5 });
  await leader.run();
  assert.deepEqual(leader.failed, ['broken']);
  assert.ok((await db.many(ledgerOf, [sound])).length >= 5);
  assert.deepEqual(await db.many(ledgerOf, [broken]), []);
  const { ahead } = await db.one(sql<{ ahead: boolean }>`
    select next_due > errand.now() + interval '5 s' ahead from errand.schedule where name = 'broken'`);
  assert.equal(ahead, true, 'it is not tried again at once');
});

test('a slot that stands in the ledger already is decided, and neither its schedule nor a neighbour is kept from firing', async () => {
  const leader = await dispatching(db);
  const doubled = await keepSchedule(db, 'doubled', { behind_seconds: 5 });
  const sound = await keepSchedule(db, 'sound', { behind_seconds: 5 });
  await db.many(
    sql`insert into errand.slot (schedule_id, slot, due_at, outcome)
      select $1, date_trunc('second', errand.now()) - interval '2 s', errand.now(), 'skipped'`,
    [doubled],
  );
  await leader.run();
  assert.deepEqual(leader.failed, []);
  const rows = await db.many(ledgerOf, [doubled]);
  assert.equal(rows.length, (await db.many(ledgerOf, [sound])).length);
  const { jobs } = await db.one(sql<{ jobs: number }>`
    select count(*)::int jobs from errand.job where options -> 'schedule' ->> 'name' = 'doubled'`);
  assert.equal(jobs, rows.length - 1);
});

test('a schedule whose job the database refuses is set aside, and its neighbours are fired', async () => {
  const leader = await dispatching(db);
  await keepSchedule(db, 'refused', {
    definition: {
      job: { queue: 'default', type: 'x', priority: 5, max_attempts: 99_999, timeout_seconds: 60 },
    },
    behind_seconds: 5,
  });
  const sound = await keepSchedule(db, 'sound', { behind_seconds: 5 });
  await leader.run();
  assert.deepEqual(leader.failed, ['refused']);
  assert.ok((await db.many(ledgerOf, [sound])).length >= 5);
});

test('a schedule that changes or is locked while it is judged is left for the next look', async () => {
  const leader = await dispatching(db);
  const locked = await keepSchedule(db, 'locked', { behind_seconds: 5 });
  const free = await keepSchedule(db, 'free', { behind_seconds: 5 });
  await db.transaction(async (tx) => {
    await tx.many(sql`select id from errand.schedule where name = 'locked' for update`);
    assert.equal(await leader.run(), 1);
    assert.deepEqual(await db.many(ledgerOf, [locked]), []);
    assert.ok((await db.many(ledgerOf, [free])).length >= 5);
  });
  await leader.run();
  assert.ok((await db.many(ledgerOf, [locked])).length >= 5);
});

test('slots of an earlier definition are fired before the watermark goes on', async () => {
  const leader = await dispatching(db);
  const id = await keepSchedule(db, 'changed', { definition: { every_seconds: 3_600 } });
  await db.many(sql`update errand.schedule set owed = array[
    date_trunc('second', errand.now()) - interval '20 s', date_trunc('second', errand.now()) - interval '10 s']`);
  await leader.run();
  const rows = await db.many(ledgerOf, [id]);
  assert.deepEqual(
    rows.slice(0, 2).map(({ outcome }) => outcome),
    ['late', 'late'],
  );
  const { owed } = await db.one(sql<{ owed: Date[] }>`select owed from errand.schedule`);
  assert.deepEqual(owed, []);
});

test('a job that is open makes its schedule wait with one slot, which is fired when it has ended', async () => {
  const leader = await dispatching(db);
  const id = await keepSchedule(db, 'queued', {
    definition: { every_seconds: 10, overlap: 'queue_one' },
    behind_seconds: 25,
  });
  await leader.run();
  const [first, ...more] = await db.many(ledgerOf, [id]);
  assert.equal(first?.outcome, 'late');
  for (const { outcome, reason } of more) assert.deepEqual([outcome, reason], ['skipped', 'overlap']);
  const { held } = await db.one(sql<{ held: Date | null }>`select held from errand.schedule`);
  assert.ok(held !== null && first !== undefined);
  assert.equal(held.getTime() - first.slot.getTime(), 10_000);
  await db.many(
    sql`insert into errand.outcome (job_id, epoch, lane, attempt, prio, status) values ($1, 1, 1, 1, 5, 'succeeded')`,
    [first.job_id],
  );
  await db.many(sql`update errand.schedule set next_due = errand.now()`);
  await leader.run();
  const waited = (await db.many(ledgerOf, [id])).find(({ slot }) => slot.getTime() === held.getTime());
  assert.deepEqual([waited?.outcome, waited?.reason], ['late', 'overlap']);
});

test('the open job is asked to stop', async () => {
  const leader = await dispatching(db);
  const id = await keepSchedule(db, 'replacing', {
    definition: { every_seconds: 600, overlap: 'cancel_running', max_lateness_seconds: 600 },
    behind_seconds: 600,
  });
  await db.many(sql`update errand.schedule set open_jobs = '{424242}'`);
  await leader.run();
  assert.deepEqual(leader.cancelled, ['424242']);
  assert.equal((await db.many(ledgerOf, [id])).length, 1);
});

test('slots of a pause are in the ledger as such', async () => {
  const leader = await dispatching(db);
  const id = await keepSchedule(db, 'paused', { behind_seconds: 4, paused_seconds_ago: 10 });
  await leader.run();
  const rows = await db.many(ledgerOf, [id]);
  assert.ok(rows.length >= 4);
  for (const { outcome, reason, job_id } of rows)
    assert.deepEqual([outcome, reason, job_id], ['skipped', 'paused', null]);
});

test('a day of seconds is one row for what is old and a row each for the last thousand', async () => {
  const leader = await dispatching(db);
  const id = await keepSchedule(db, 'absent', { behind_seconds: 86_400 });
  while ((await leader.run()) > 0);
  const rows = await db.many(ledgerOf, [id]);
  // While it is caught up, more seconds pass.
  assert.ok(rows.length >= 1_001 && rows.length < 1_020, `${rows.length} rows`);
  const [folded] = rows;
  assert.ok(folded?.through);
  assert.deepEqual([folded.outcome, folded.reason], ['skipped', 'misfire']);
  assert.equal(folded.through.getTime() + 1_000, rows[1]?.slot.getTime());
  const fired = rows.filter(({ job_id }) => job_id !== null);
  assert.ok(fired.length >= 300 && fired.length < 320, `${fired.length} within the lateness of 300 s`);
});

test('payloads that are dear together are written in several turns, none lost and none doubled', async () => {
  const leader = await dispatching(db);
  const id = await keepSchedule(db, 'dear', {
    definition: { every_seconds: 10, misfire: 'fire_all', max_lateness_seconds: 5, max_catch_up: 12 },
    payload: JSON.stringify('x'.repeat(3 * 1024 * 1024)),
    behind_seconds: 200,
  });
  let turns = 0;
  while ((await leader.run()) > 0) turns++;
  assert.ok(turns >= 4, `${turns} turns for 36 MiB`);
  const rows = await db.many(ledgerOf, [id]);
  const fired = rows.filter(({ job_id }) => job_id !== null);
  assert.ok(fired.length === 12 || fired.length === 13);
  assert.deepEqual(
    rows.map(({ slot }) => slot.getTime()),
    rows.map((_, n) => (rows[0]?.slot.getTime() ?? 0) + n * 10_000),
  );
});
