// The engine's promise under concurrency: whatever partial claimers, cancellers, retries, releases, stale completions,
// promotions and rescues do to each other, every job ends exactly once and no start is given out twice.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { isHeldAlone } from '../../src/domain/suspicion.ts';
import { type Claimed, claimJobs, extendLeases, listHeads, promoteDue } from '../../src/store/claims.ts';
import type { Pool } from '../../src/store/db.ts';
import { type Ending, findAbandoned, noDetails, settleJobs, settleWithin } from '../../src/store/endings.ts';
import { insertJobs } from '../../src/store/inserts.ts';
import { findJobs, takeOut } from '../../src/store/jobs.ts';
import { Lanes, Workers } from '../../src/store/lanes.ts';
import { sql } from '../../src/store/sql.ts';
import { aJob } from '../support/jobs.ts';
import { cloneDatabase, poolOn, type TestDatabase } from '../support/postgres.ts';

let database: TestDatabase;
let db: Pool;
let lanes: Lanes;
let owner: number;

before(async () => {
  database = await cloneDatabase();
  db = poolOn(database.url, 20);
  lanes = new Lanes(db);
  owner = await new Workers(db).named('tester');
});

after(async () => {
  await db.end();
  await database.drop();
});

async function claimSome(want: number, lease_seconds = 60, suspects = false): Promise<Claimed[]> {
  const heads = (await db.many(listHeads)).filter((head) => isHeldAlone(head.prio) === suspects);
  if (heads.length === 0) return [];
  const { jobs } = await claimJobs(db, {
    lanes: heads.map((head) => head.lane),
    prios: heads.map((head) => head.prio),
    cursors: heads.map(() => '0'),
    want,
    owners: [owner],
    apart: false,
    lease_seconds,
    blocks: 5,
  });
  return jobs;
}

test('every job ends exactly once under claimers, cancellers, retries, releases, losses and stale endings', async () => {
  const total = 4_000;
  const lane = (await lanes.named('storm', 'work')).id;
  const other = (await lanes.named('storm', 'other')).id;
  const ids: string[] = [];
  for (let n = 0; n < total; n += 100) {
    const size = 100;
    const jobs = Array.from({ length: size }, (_, i) =>
      aJob(i % 3 === 0 ? other : lane, {
        priority: i % 4,
        ...(i % 10 === 0 ? { delay_ms: (i % 7) * 50 } : {}),
      }),
    );
    ids.push(...(await insertJobs(db, jobs)).inserted.map((one) => (one as { id: string }).id));
  }
  const starts = new Map<string, number>();
  const ended = new Map<string, string>();
  let stale = 0;
  let open = true;
  const finish = (id: string, how: string) => {
    assert.equal(ended.get(id), undefined, `job ${id} ended as ${ended.get(id)} and again as ${how}`);
    ended.set(id, how);
    if (ended.size === total) open = false;
  };

  async function settle(jobs: readonly Claimed[], how: (job: Claimed) => Ending): Promise<void> {
    const endings = jobs.map(how);
    const settled = await settleJobs(db, endings, []);
    endings.forEach((ending, i) => {
      if (settled[i] === null) stale++;
      else if (ending.status === 'succeeded') finish(ending.start.job_id, 'succeeded');
    });
  }

  async function claimer(seed: number): Promise<void> {
    for (let turn = seed; open; turn++) {
      // Every ninth claim dies: its lease runs out at once and its ending comes too late.
      const dies = turn % 9 === 0;
      const jobs = await claimSome(1 + (turn % 7), dies ? 0 : 60, turn % 4 === 0);
      for (const job of jobs) {
        const start = `${job.job_id}.${job.epoch}`;
        starts.set(start, (starts.get(start) ?? 0) + 1);
        assert.equal(ended.has(job.job_id), false, `job ${job.job_id} started after it had ended`);
        assert.notEqual(job.payload, null);
      }
      if (jobs.length === 0) await new Promise((resolve) => setImmediate(resolve));
      else if (dies) {
        await rescueOnce();
        await settle(jobs, (start) => ({ ...noDetails, start, status: 'succeeded' }));
      } else {
        const half = Math.ceil(jobs.length / 2);
        await settle(jobs.slice(0, half), (start) => ({
          ...noDetails,
          start,
          status: 'succeeded',
          result: '1',
        }));
        await settle(jobs.slice(half), (start) =>
          turn % 5 === 0
            ? {
                ...noDetails,
                start,
                status: 'retry',
                class: 'retryable',
                source: 'worker',
                delay_ms: turn % 2 === 0 ? 20 : 0,
              }
            : turn % 7 === 0
              ? { ...noDetails, start, status: 'released', delay_ms: 0 }
              : { ...noDetails, start, status: 'succeeded' },
        );
      }
    }
  }

  async function rescueOnce(): Promise<void> {
    await db.transaction(async (tx) => {
      const found = await tx.many(findAbandoned, ['0', 50]);
      if (found.length === 0) return;
      const endings = found
        .filter((one) => one.job_id !== null)
        .map(
          (one): Ending => ({
            ...noDetails,
            start: { ...one, job_id: one.job_id as string },
            status: 'lost',
            class: 'lost',
            source: 'errand',
            delay_ms: 0,
          }),
        );
      await settleWithin(tx, endings, [...new Set(found.map((one) => one.lease))]);
    });
  }

  async function canceller(): Promise<void> {
    for (let n = 0; open && n < ids.length; n += 7) {
      const id = ids[(n * 13) % ids.length] as string;
      if (ended.has(id)) continue;
      const { taken } = await db.one(takeOut, [id, 'cancelled', 2_147_483_647, null, false]);
      if (taken === 1) finish(id, 'cancelled');
    }
  }

  async function promoter(): Promise<void> {
    while (open) {
      await db.many(promoteDue, [100, 1_000_000_000]);
      await rescueOnce();
      await new Promise((resolve) => setTimeout(resolve, 5));
    }
  }

  await Promise.all([...[1, 2, 3, 4, 5, 6].map(claimer), canceller(), canceller(), promoter(), promoter()]);

  for (const [start, times] of starts) assert.equal(times, 1, `start ${start} was given out ${times} times`);
  assert.equal(ended.size, total);
  assert.ok(stale > 0, 'no stale ending was refused: the test did not reach its rare path');
  const { terminal, jobs, open_leases, waiting } = await db.one(books);
  assert.deepEqual({ terminal, jobs, waiting }, { terminal: total, jobs: total, waiting: 0 });
  assert.ok(open_leases >= 0);
  const facts = await db.many(findJobs, [ids]);
  for (const one of facts) assert.equal(one.state, ended.get(one.id), `job ${one.id}`);
  const gaps = await db.many(epochGaps);
  assert.deepEqual(gaps, []);
});

const books = sql<{ terminal: number; jobs: number; open_leases: number; waiting: number }>`
select (select count(*)::int from errand.outcome where status <= 'expired') terminal,
  (select count(distinct job_id)::int from errand.outcome where status <= 'expired') jobs,
  (select count(*)::int from errand.lease) open_leases,
  (select coalesce(sum(cardinality(ids) - pos), 0)::int from errand.block) + (select count(*)::int from errand.later) waiting`;

const epochGaps = sql<{ job_id: string }>`
select job_id from errand.outcome group by job_id having max(epoch) <> count(*)`;

test('a stale ending is refused also in one batch with the present ending of the same job', async () => {
  const lane = (await lanes.named('batch', 'work')).id;
  const { inserted } = await insertJobs(db, [aJob(lane)]);
  const claimOf = async () => {
    const { jobs } = await claimJobs(db, {
      lanes: [lane, lane],
      prios: [5, 15],
      cursors: ['0', '0'],
      want: 1,
      owners: [owner],
      apart: false,
      lease_seconds: 60,
      blocks: 1,
    });
    return jobs[0] as Claimed;
  };
  const first = await claimOf();
  await settleJobs(
    db,
    [{ ...noDetails, start: first, status: 'lost', class: 'lost', source: 'errand', delay_ms: 0 }],
    [],
  );
  const second = await claimOf();
  assert.deepEqual([second.job_id, second.epoch], [inserted[0]?.id, 2]);
  const settled = await settleJobs(
    db,
    [first, second].map((start) => ({
      ...noDetails,
      start,
      status: 'succeeded',
      result: String(start.epoch),
    })),
    [],
  );
  assert.deepEqual(
    settled.map((one) => one?.epoch ?? null),
    [null, 2],
  );
});

test('an ending that comes again, or twice at once, is refused and leaves its neighbours alone', async () => {
  const [first, second, third] = await oneLease(3);
  assert.deepEqual(await settleJobs(db, [succeeded(first)], []), [accepted(first)]);
  assert.deepEqual(await settleJobs(db, [first, second, first].map(succeeded), []), [
    null,
    accepted(second),
    null,
  ]);
  assert.deepEqual(await settleJobs(db, [succeeded(third), succeeded(third)], [third.lease]), [
    accepted(third),
    null,
  ]);
});

test('an ending waits for a heartbeat of its lease that is under way, and is accepted', async () => {
  const [first, second] = await oneLease(2);
  const beaten = Promise.withResolvers<void>();
  const mayCommit = Promise.withResolvers<void>();
  const beating = db.transaction(async (tx) => {
    await tx.many(extendLeases, [[first.lease], 60, [first.job_id], [first.epoch]]);
    beaten.resolve();
    await mayCommit.promise;
  });
  await beaten.promise;
  const settling = settleJobs(db, [succeeded(first), succeeded(second)], [first.lease]);
  const early = await Promise.race([settling, new Promise((resolve) => setTimeout(resolve, 50, 'waits'))]);
  assert.equal(early, 'waits');
  mayCommit.resolve();
  await beating;
  assert.deepEqual(await settling, [accepted(first), accepted(second)]);
  assert.equal(await db.maybeOne(leaseOf, [first.lease]), undefined);
});

const leaseOf = sql<{ id: string }>`select id from errand.lease where id = $1`;

const succeeded = (start: Claimed): Ending => ({
  ...noDetails,
  start,
  status: 'succeeded',
  result: start.job_id,
});

const accepted = ({ job_id, epoch }: Claimed) => ({
  job_id,
  epoch,
  status: 'succeeded',
  next_at: null,
  repeated: false,
});

let leases = 0;

/** So many jobs under one lease. */
async function oneLease(count: number): Promise<[Claimed, Claimed, Claimed]> {
  const lane = (await lanes.named('leases', String(leases++))).id;
  await insertJobs(
    db,
    Array.from({ length: count }, () => aJob(lane)),
  );
  const { jobs } = await claimJobs(db, {
    lanes: [lane],
    prios: [aJob(lane).priority],
    cursors: ['0'],
    want: count,
    owners: [owner],
    apart: false,
    lease_seconds: 60,
    blocks: 1,
  });
  assert.equal(new Set(jobs.map((job) => job.lease)).size, 1);
  assert.equal(jobs.length, count);
  return jobs as [Claimed, Claimed, Claimed];
}
