// What each part of the claim statement guards, one test for each: a change that breaks one is told by name. The race of
// many claimers is in engine.test.ts, the plan in plans.test.ts; docs/storage.md says which part is whose.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { claimJobs } from '../../src/store/claims.ts';
import type { Db, Pool } from '../../src/store/db.ts';
import { insertJobs, type NewJob } from '../../src/store/inserts.ts';
import { Lanes } from '../../src/store/lanes.ts';
import { sql } from '../../src/store/sql.ts';
import { aJob, crowdOf } from '../support/jobs.ts';
import { cloneDatabase, poolOn, type TestDatabase } from '../support/postgres.ts';

let database: TestDatabase;
let db: Pool;
let lanes: Lanes;

before(async () => {
  database = await cloneDatabase();
  db = poolOn(database.url, 3);
  lanes = new Lanes(db);
});

after(async () => {
  await db.end();
  await database.drop();
});

/** A lane of its own for each test. */
async function freshLane(name: string): Promise<number> {
  return (await lanes.named('rules', name)).id;
}

/** Puts jobs into one block for each priority and timeout among them, and answers their ids. */
async function blockOf(lane: number, jobs: readonly Partial<NewJob>[]): Promise<string[]> {
  const { inserted } = await insertJobs(
    db,
    jobs.map((job) => aJob(lane, job)),
  );
  return inserted.flatMap((one) => (one === null ? [] : [one.id]));
}

type Ask = Partial<Parameters<typeof claimJobs>[1]> & { on?: Db };

async function claim(lane: number, { on = db, ...ask }: Ask = {}) {
  const prios = ask.prios ?? [5];
  const { jobs, heads } = await claimJobs(on, {
    lanes: prios.map(() => lane),
    prios,
    cursors: prios.map(() => '0'),
    want: 100,
    owners: [1],
    apart: false,
    lease_seconds: 30,
    blocks: 100,
    ...ask,
  });
  return { jobs, heads, ids: jobs.map((job) => job.job_id) };
}

const blocks = sql<{ seq: string; pos: number; ids: string[] }>`
select seq, pos, ids from errand.block where lane = $1 order by ord`;
const leases = sql<{ id: string; ids: string[]; owner: number; epoch: number; attempt: number }>`
select id, ids, owner, epoch, attempt from errand.lease where lane = $1 order by id`;
const lockedNow = sql<{ free: number }>`
select count(*)::int free from (select from errand.block where lane = $1 for update skip locked) b`;
const dated = sql<never>`
update errand.block set at = '2026-01-01T00:00:00Z'::timestamptz - $3::int * interval '1 s' where lane = $1 and prio = $2`;
const datedIds = sql<never>`
update errand.block set at = '2026-01-01T00:00:00Z'::timestamptz - $2::int * interval '1 s' where ids && $1::bigint[]`;
const lostAs = sql<never>`update errand.block set prio = $3 where lane = $1 and prio = $2`;
const retried = sql<never>`update errand.block set epoch = 4, attempt = 3 where lane = $1`;
const unseen = sql<never>`
insert into errand.block (seq, ord, lane, prio, timeout_seconds, ids)
select n, n, $1, 5, 60, array[9999999] from (select nextval('errand.block_seq') n) x`;
const madeIn2019 = sql<never>`update errand.job set created_at = '2019-01-01T00:00:00Z' where id = $1`;
const undo = new Error('undo');

test('a block is taken from its front, and what is left of it stays for the next claim', async () => {
  const lane = await freshLane('front');
  const ids = await blockOf(lane, [{}, {}, {}, {}, {}]);
  assert.deepEqual((await claim(lane, { want: 2 })).ids, ids.slice(0, 2));
  const [left] = await db.many(blocks, [lane]);
  assert.deepEqual([left?.pos, left?.ids], [2, ids]);
  assert.deepEqual((await claim(lane, { want: 2 })).ids, ids.slice(2, 4));
  assert.deepEqual((await claim(lane)).ids, ids.slice(4));
  assert.deepEqual(await db.many(blocks, [lane]), [], 'a block that is used up is gone');
});

test('a claim takes what it wants and no more, over as many blocks as that needs', async () => {
  const lane = await freshLane('want');
  const ids = [...(await blockOf(lane, [{}, {}, {}])), ...(await blockOf(lane, [{}, {}, {}]))];
  const taken = await claim(lane, { want: 4 });
  assert.deepEqual(taken.ids, ids.slice(0, 4));
  assert.deepEqual(
    (await db.many(leases, [lane])).map((lease) => lease.ids),
    [ids.slice(0, 3), ids.slice(3, 4)],
    'one lease for each block',
  );
});

test('a claim locks as many blocks as it may, however many stand in the lane', async () => {
  const lane = await freshLane('locks');
  await db.many(crowdOf, [lane, 50]);
  const claiming = db.transaction(async (tx) => {
    assert.equal((await claim(lane, { on: tx, want: 2, blocks: 3 })).jobs.length, 2);
    assert.equal((await db.one(lockedNow, [lane])).free, 47);
    throw undo;
  });
  await assert.rejects(claiming, undo);
});

test('all heads of a claim share its limit of locks', async () => {
  const lane = await freshLane('shared');
  for (const priority of [1, 2, 3]) for (let n = 0; n < 4; n++) await blockOf(lane, [{ priority }]);
  const claiming = db.transaction(async (tx) => {
    await claim(lane, { on: tx, prios: [1, 2, 3], want: 2, blocks: 3 });
    assert.equal((await db.one(lockedNow, [lane])).free, 9);
    throw undo;
  });
  await assert.rejects(claiming, undo);
});

test('a block that somebody holds is passed over, not waited for', async () => {
  const lane = await freshLane('held');
  const [first, second] = [await blockOf(lane, [{}, {}]), await blockOf(lane, [{}])];
  const holding = db.transaction(async (tx) => {
    assert.deepEqual((await claim(lane, { on: tx, want: 1, blocks: 1 })).ids, first.slice(0, 1));
    const beside = await claim(lane);
    assert.deepEqual(beside.ids, second);
    const [held] = await db.many(blocks, [lane]);
    assert.deepEqual(
      beside.heads.map((head) => head.first_live),
      [held?.seq],
      'what is held is not passed by the cursor',
    );
  });
  await holding;
});

test('a claim starts behind its cursor and tells the first block it saw', async () => {
  const lane = await freshLane('cursor');
  await blockOf(lane, [{}]);
  const second = await blockOf(lane, [{}]);
  const [one, two] = await db.many(blocks, [lane]);
  const { ids, heads } = await claim(lane, { cursors: [one?.seq ?? ''] });
  assert.deepEqual(ids, second);
  assert.deepEqual(
    heads.map(({ head, first_live }) => [head, first_live]),
    [[1, two?.seq]],
  );
  assert.deepEqual((await claim(lane, { cursors: [two?.seq ?? ''] })).heads, [], 'nothing behind it');
});

test('blocks of a head go by their order, heads by age, and a priority step is worth 30 s of it', async () => {
  const lane = await freshLane('age');
  const [first, second] = [await blockOf(lane, [{}]), await blockOf(lane, [{}])];
  const urgent = await blockOf(lane, [{ priority: 4 }]);
  const prios = [5, 4];
  const made = async (normal: number, urgent: number) => {
    await db.many(dated, [lane, 5, normal]);
    await db.many(dated, [lane, 4, urgent]);
  };
  await made(29, 0);
  assert.deepEqual((await claim(lane, { prios, want: 1 })).ids, urgent, '29 s older is not enough');
  await blockOf(lane, [{ priority: 4 }]);
  await made(31, 0);
  assert.deepEqual((await claim(lane, { prios, want: 2 })).ids, [...first, ...second]);
});

test('suspects of one priority go by age alone, however often they were lost', async () => {
  const lane = await freshLane('suspects');
  const [once] = await blockOf(lane, [{}]);
  await db.many(lostAs, [lane, 5, 15]);
  const [twice] = await blockOf(lane, [{}]);
  await db.many(lostAs, [lane, 5, 25]);
  await db.many(dated, [lane, 15, 10]);
  await db.many(dated, [lane, 25, 20]);
  assert.deepEqual((await claim(lane, { prios: [15, 25], want: 2 })).ids, [twice, once]);
});

test('under a flood of the most urgent, the least urgent job is passed only by what came within 270 s of it', async () => {
  const lane = await freshLane('flood');
  const [patient] = await blockOf(lane, [{ priority: 9 }]);
  await db.many(dated, [lane, 9, 0]);
  const cameAt = new Map<string, number>();
  const passed: number[] = [];
  for (let second = 0; ; second += 10) {
    assert.ok(second < 1_000, 'it starved');
    const urgent = await blockOf(lane, Array(5).fill({ priority: 0 }));
    for (const id of urgent) cameAt.set(id, second);
    await db.many(datedIds, [urgent, -second]);
    // Fewer than come: the flood never ends.
    const { ids } = await claim(lane, { prios: [0, 9], want: 3 });
    passed.push(...ids.map((id) => cameAt.get(id) ?? 0));
    if (ids.includes(patient as string)) break;
  }
  // A claim stays with the head it began with: what it takes there besides came with the next ten seconds.
  assert.ok(Math.max(...passed) <= 280, `passed by one that came ${Math.max(...passed)} s later`);
  assert.ok(passed.length > 100, 'there was no flood');
});

test('with apart every job has a lease of its own, and the owners take turns', async () => {
  const lane = await freshLane('apart');
  const ids = [...(await blockOf(lane, [{}])), ...(await blockOf(lane, [{}, {}]))];
  const { jobs } = await claim(lane, { want: 3, apart: true, owners: [11, 12, 13] });
  assert.deepEqual(
    jobs.map((job) => [job.job_id, job.owner]).toSorted(),
    ids.map((id, n) => [id, 11 + n]),
  );
  assert.equal(new Set(jobs.map((job) => job.lease)).size, 3);
});

test('a lease has epoch and attempt of its block, ends with the deadline, and begins now', async () => {
  const lane = await freshLane('lease');
  await blockOf(lane, [{ timeout_seconds: 5 }]);
  await db.many(retried, [lane]);
  const [job] = (await claim(lane, { lease_seconds: 600 })).jobs;
  assert.deepEqual([job?.epoch, job?.attempt, job?.owner], [4, 3, 1]);
  const lasts = (end: Date | undefined) => (Number(end) - Number(job?.started_at)) / 1_000;
  assert.deepEqual([lasts(job?.deadline), lasts(job?.until)], [5, 7]);
  await blockOf(lane, [{}]);
  const [other] = (await claim(lane, { lease_seconds: 30 })).jobs;
  assert.equal((Number(other?.until) - Number(other?.started_at)) / 1_000, 30);
});

test('a job that the snapshot does not show is handed out without its payload, and not lost', async () => {
  const lane = await freshLane('unseen');
  await db.many(unseen, [lane]);
  const [job] = (await claim(lane)).jobs;
  assert.deepEqual([job?.job_id, job?.payload], ['9999999', null]);
});

test('the time for further attempts is counted from when the job was due', async () => {
  const lane = await freshLane('retry-until');
  const due = '2020-01-01T00:00:00Z';
  await blockOf(lane, [{ run_at: due, options: { max_age_seconds: 60 } }]);
  const [job] = (await claim(lane)).jobs;
  assert.equal(job?.retry_until, Date.parse(due) + 60_000);
});

test('what is past its expires_at is told from what is not', async () => {
  const lane = await freshLane('expired');
  const past = { expires_at: '2020-01-01T00:00:00Z' };
  const [old] = await blockOf(lane, [past, past, { expires_at: '2999-01-01T00:00:00Z' }, {}]);
  // Most jobs had time left when they were made.
  await db.many(madeIn2019, [old]);
  assert.deepEqual(
    (await claim(lane)).jobs.map((job) => job.expired),
    [true, true, false, false],
  );
});
