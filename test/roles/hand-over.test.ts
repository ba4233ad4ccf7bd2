// A target takes over one of several jobs that were pushed under one lease: what that does to the job and to its neighbours,
// whoever dies or comes at the same time. The test is the pusher, so that it can stop where it likes.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { type HandOver, handingOver } from '../../src/actions/hand-over.ts';
import { beating } from '../../src/actions/heartbeat.ts';
import { issueLeaseId } from '../../src/domain/lease-id.ts';
import { OpenLeases } from '../../src/domain/open-leases.ts';
import { pushRoute } from '../../src/domain/options.ts';
import { Problem } from '../../src/domain/problem.ts';
import { takeApart } from '../../src/store/apart.ts';
import { type Claimed, claimJobs } from '../../src/store/claims.ts';
import type { Db, Pool } from '../../src/store/db.ts';
import { Lanes } from '../../src/store/lanes.ts';
import { sql } from '../../src/store/sql.ts';
import { aSubmission, startErrand, type TestErrand } from '../support/errand.ts';
import { poolOn } from '../support/postgres.ts';
import { until } from '../support/until.ts';

let errand: TestErrand;
let db: Pool;
let secret: Buffer;
let handOver: HandOver['handOver'];
/** What the pusher knows of its leases; it does not hear what ends elsewhere. */
const open = new OpenLeases();

const target = { url: 'http://127.0.0.1:1/', method: 'POST' as const };
const leaseRows = sql<{ id: string; ids: string[]; until: Date; deadline: Date; cancels: string[] | null }>`
select id, ids, until, deadline, cancels from errand.lease where ids && $1::bigint[] order by id`;
const runOut = sql<never>`update errand.lease set until = errand.now() - interval '1 s' where id = $1`;
const waitForLocks = sql<{ n: number }>`
select count(*)::int n from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()`;
const emptyRows = sql<{ n: number }>`select count(*)::int n from errand.lease where cardinality(ids) = 0`;
const statesOf = sql<{ id: string; state: string; epoch: number; cancel_requested: boolean }>`
select id, state, epoch, cancel_requested from errand.job_facts($1::bigint[])`;

before(async () => {
  // Nobody here pushes; leases that run out are rescued.
  errand = await startErrand({ env: { ERRAND_ROLES: 'api,dispatcher' } });
  db = poolOn(errand.databaseUrl, 4);
  secret = (await db.one(sql<{ value: Buffer }>`select value from errand.secret where name = 'lease'`, []))
    .value;
  ({ handOver } = handingOver({ db, open, heartbeat: beating(db) }));
});

after(async () => {
  await db.end();
  await errand.stop();
});

/** Jobs of a queue of their own that were claimed for a push under one lease. */
async function pushedTogether<Count extends number>(queue: string, count: Count) {
  const wish = aSubmission({ queue, options: { target } });
  await Promise.all(Array.from({ length: count }, () => errand.actions.submit(wish)));
  const lane = await new Lanes(db).named(queue, pushRoute('work'));
  const { jobs } = await claimJobs(db, {
    ...{ lanes: [lane.id], prios: [5], cursors: ['0'], want: count, owners: [1] },
    ...{ apart: false, lease_seconds: 30, blocks: count },
  });
  assert.equal(jobs.length, count);
  const [{ lease }] = jobs as [Claimed];
  assert.ok(jobs.every((job) => job.lease === lease));
  open.granted(jobs);
  return { jobs, lease, ids: jobs.map((job) => job.job_id) };
}

const sealed = (start: Claimed) => issueLeaseId(start, secret);
const isLost = (error: unknown) => error instanceof Problem && error.slug === 'lease-lost';
const rowsOf = (ids: readonly string[]) => db.many(leaseRows, [ids]);

async function stateOf(id: string) {
  const [row] = await db.many(statesOf, [[id]]);
  assert.ok(row);
  return row;
}

test('a job that was taken over is kept by its heartbeats while the lease of its neighbours runs out', async () => {
  const { jobs, lease, ids } = await pushedTogether('kept', 3);
  const [taken, ...others] = jobs as [Claimed, Claimed, Claimed];
  assert.ok(await handOver(taken, 60));
  const [old, own] = await rowsOf(ids);
  assert.deepEqual([old?.id, old?.ids, own?.ids], [lease, ids.slice(1), [taken.job_id]]);
  assert.ok(Number(old?.until) < Number(own?.until));
  await db.many(runOut, [lease]);
  const { pull } = errand.actions;
  await until(async () => {
    await pull.heartbeat(sealed(taken), 30);
    const states = await Promise.all(others.map((job) => stateOf(job.job_id)));
    return states.every(({ state, epoch }) => state === 'queued' && epoch === 1);
  });
  assert.deepEqual(await rowsOf(ids), await rowsOf([taken.job_id]));
  assert.equal((await stateOf(taken.job_id)).state, 'running');
  for (const job of others) await assert.rejects(pull.heartbeat(sealed(job), 30), isLost);
  // The id it was sent names the lease it had before; repeated, the completion is answered the same.
  const end = { result: '[1]', created_uri: null };
  for (let n = 0; n < 2; n++) await pull.complete(sealed(taken), end);
  assert.equal((await stateOf(taken.job_id)).state, 'succeeded');
  assert.deepEqual(await rowsOf([taken.job_id]), []);
});

test('all jobs of a lease that are taken over at once have leases of their own', async () => {
  const { jobs, ids } = await pushedTogether('all', 5);
  const [again] = jobs as [Claimed];
  const beats = await Promise.all([...jobs, again].map((job) => handOver(job, 60)));
  assert.ok(beats.every((beat) => beat !== null));
  const rows = await rowsOf(ids);
  assert.deepEqual(rows.map((row) => row.ids).sort(), ids.map((id) => [id]).sort());
  assert.equal((await db.one(emptyRows, [])).n, 0);
  assert.ok(rows.every((row) => row.until >= new Date(Number(row.deadline) - 5_000)));
  for (const job of jobs) await errand.actions.pull.release(sealed(job), 60);
  assert.deepEqual(await rowsOf(ids), []);
});

test('two processes that hand neighbours over at once move each of them once', async () => {
  const other = handingOver({ db, open: new OpenLeases(), heartbeat: beating(db) });
  for (let n = 0; n < 20; n++) {
    const { jobs, ids } = await pushedTogether(`crossing-${n}`, 4);
    const [a, b, c] = jobs as [Claimed, Claimed, Claimed];
    const beats = await Promise.all([
      handOver(a, 60),
      other.handOver(b, 60),
      handOver(c, 60),
      other.handOver(c, 60),
    ]);
    assert.ok(beats.every((beat) => beat !== null));
    const held = (await rowsOf(ids)).map((row) => row.ids.join());
    assert.deepEqual(held.sort(), [...ids].sort());
  }
});

test('a start that was lost is not taken over by a 202 that comes late', async () => {
  const { jobs, lease, ids } = await pushedTogether('late', 2);
  const [late, completed] = jobs as [Claimed, Claimed];
  await errand.actions.pull.complete(sealed(completed), { result: null, created_uri: null });
  await db.many(runOut, [lease]);
  await until(async () => (await rowsOf(ids)).length === 0);
  assert.equal(await handOver(late, 60), null);
  assert.equal(await handOver(completed, 60), null);
  assert.deepEqual(await rowsOf(ids), []);
  const { state, epoch } = await stateOf(late.job_id);
  assert.deepEqual([state, epoch], ['queued', 1]);
  await assert.rejects(
    errand.actions.pull.complete(sealed(late), { result: null, created_uri: null }),
    isLost,
  );
});

test('a process that dies between the two steps of a hand-over loses the job as any other', async () => {
  const { jobs, ids } = await pushedTogether('died', 2);
  const [taken] = jobs as [Claimed];
  const [moved] = await db.many(takeApart, [[taken.job_id], [taken.epoch]]);
  const [old, own] = await rowsOf(ids);
  assert.deepEqual([own?.id, own?.until], [moved?.lease, old?.until]);
  for (const row of [old, own]) await db.many(runOut, [row?.id]);
  await until(async () => (await rowsOf(ids)).length === 0);
  for (const id of ids) {
    const { state, epoch } = await stateOf(id);
    assert.deepEqual([state, epoch], ['queued', 1]);
  }
});

/** Begins something while the row of a lease is locked, lets go when `count` statements wait for it, and awaits their end. */
async function whileLocked<T>(
  lease: string,
  count: number,
  begin: (tx: Db) => Promise<{ ends: Promise<T> }>,
): Promise<T> {
  const { ends } = await db.transaction(async (tx) => {
    await tx.many(sql`select id from errand.lease where id = $1 for update`, [lease]);
    const begun = await begin(tx);
    await until(async () => (await db.one(waitForLocks, [])).n === count);
    return begun;
  });
  return ends;
}

test('what befalls the common lease while a hand-over waits for it is kept on both sides', async () => {
  const { jobs, lease, ids } = await pushedTogether('waits', 3);
  const [taken, neighbour] = jobs as [Claimed, Claimed];
  const renew = sql<never>`update errand.lease set until = until + interval '7 s', cancels = $2::bigint[] where id = $1`;
  const [before] = await rowsOf(ids);
  const moved = await whileLocked(lease, 1, async (tx) => {
    await tx.many(renew, [lease, [taken.job_id, neighbour.job_id]]);
    return { ends: db.many(takeApart, [[taken.job_id], [taken.epoch]]) };
  });
  assert.equal(moved.length, 1);
  const [old, own] = await rowsOf(ids);
  const renewed = new Date(Number(before?.until) + 7_000);
  assert.deepEqual([old?.until, old?.ids], [renewed, ids.slice(1)]);
  assert.deepEqual([own?.until, own?.ids, own?.cancels], [renewed, [taken.job_id], [taken.job_id]]);
  for (const job of [taken, neighbour]) assert.ok((await stateOf(job.job_id)).cancel_requested);
});

test('of two that hand the same start over at once both are told the one lease it has', async () => {
  const { jobs, lease, ids } = await pushedTogether('twice', 3);
  const [taken] = jobs as [Claimed];
  const other = handingOver({ db, open: new OpenLeases(), heartbeat: beating(db) });
  const beats = await whileLocked(lease, 2, async () => ({
    ends: Promise.all([handOver(taken, 60), other.handOver(taken, 60)]),
  }));
  assert.ok(beats.every((beat) => beat !== null));
  assert.deepEqual((await rowsOf(ids)).map((row) => row.ids).sort(), [[taken.job_id], ids.slice(1)].sort());
});

test('a completion that crosses the hand-over is accepted, wherever the start stands', async () => {
  for (let n = 0; n < 20; n++) {
    const { jobs } = await pushedTogether(`crossed-${n}`, 2);
    const end = (job: Claimed) =>
      errand.actions.pull.complete(sealed(job), { result: '1', created_uri: null });
    await Promise.all(jobs.flatMap((job) => [handOver(job, 60), end(job)]));
    for (const job of jobs) assert.equal((await stateOf(job.job_id)).state, 'succeeded');
  }
});

test('a heartbeat before the 202 tells how the lease stands and keeps nobody else’s job', async () => {
  const { jobs, ids } = await pushedTogether('early', 2);
  const [early, ended] = jobs as [Claimed, Claimed];
  const [before] = await rowsOf(ids);
  const { pull, cancel } = errand.actions;
  assert.deepEqual(await cancel.cancel(early.job_id), { kind: 'requested' });
  const { until: end, cancel_requested } = await pull.heartbeat(sealed(early), 3_600);
  assert.deepEqual([end, cancel_requested], [before?.until, true]);
  assert.deepEqual((await rowsOf(ids))[0]?.until, before?.until);
  await pull.report(sealed(ended), { progress: '1' });
  await pull.complete(sealed(ended), { result: null, created_uri: null });
  await assert.rejects(pull.heartbeat(sealed(ended), 30), isLost);
  await assert.rejects(pull.report(sealed(ended), { progress: '2' }), isLost);
});

test('a common lease whose other jobs have ended goes with the hand-over of the last one', async () => {
  const { jobs, ids } = await pushedTogether('last', 3);
  const [ended, next, last] = jobs as [Claimed, Claimed, Claimed];
  await errand.actions.pull.complete(sealed(ended), { result: null, created_uri: null });
  open.ended([ended]);
  assert.ok(await handOver(next, 60));
  const held = async () => (await rowsOf(ids)).map((row) => row.ids);
  assert.deepEqual(await held(), [[ended.job_id, last.job_id], [next.job_id]]);
  assert.ok(await handOver(last, 60));
  assert.deepEqual(await held(), [[next.job_id], [last.job_id]]);
});
