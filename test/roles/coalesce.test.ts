// A crowd of pull workers that want one job each: what it costs the database, and that nobody gets what is another's.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as delay } from 'node:timers/promises';
import { type Claim, claiming } from '../../src/actions/claim.ts';
import { coalescing, type LeaseOne } from '../../src/actions/coalesce.ts';
import { beating } from '../../src/actions/heartbeat.ts';
import { inspecting, naming } from '../../src/actions/inspect.ts';
import { progressing } from '../../src/actions/progress.ts';
import { pulling } from '../../src/actions/pull.ts';
import { Ready } from '../../src/actions/ready.ts';
import { settling } from '../../src/actions/settle.ts';
import { Waiters } from '../../src/actions/wait.ts';
import { Heads } from '../../src/domain/heads.ts';
import { OpenLeases } from '../../src/domain/open-leases.ts';
import { EventBus } from '../../src/events.ts';
import type { Pool } from '../../src/store/db.ts';
import { noDetails } from '../../src/store/endings.ts';
import { insertJobs } from '../../src/store/inserts.ts';
import { Lanes, Workers } from '../../src/store/lanes.ts';
import { sql } from '../../src/store/sql.ts';
import { aJob } from '../support/jobs.ts';
import { cloneDatabase, poolOn, type TestDatabase } from '../support/postgres.ts';
import { until } from '../support/until.ts';

let database: TestDatabase;
let db: Pool;
let lanes: Lanes;
let owners: number[];

before(async () => {
  database = await cloneDatabase();
  db = poolOn(database.url, 5);
  lanes = new Lanes(db);
  const workers = new Workers(db);
  owners = await Promise.all(Array.from({ length: 64 }, (_, n) => workers.named(`puller-${n}`)));
});

after(async () => {
  await db.end();
  await database.drop();
});

/** The parts a pull goes through, on a pool that counts its claims; `slowly` runs before each. */
function parts(slowly: () => Promise<void> = async () => {}) {
  const counted = new Map<string, number>();
  const heads = new Heads();
  const events = new EventBus();
  const fail = (error: unknown) => assert.fail(String(error));
  const ready = new Ready({ heads, notify: async () => {}, meet: () => undefined, onError: fail });
  const open = new OpenLeases();
  const watched: Pool = {
    ...db,
    async many(statement, params) {
      const name = statement.name ?? 'another';
      counted.set(name, (counted.get(name) ?? 0) + 1);
      if (name === 'claim') await slowly();
      return db.many(statement, params);
    },
    one: async (statement, params) => (await watched.many(statement, params))[0] as never,
  };
  const settle = settling({
    db: watched,
    open,
    ready,
    events,
    onEnded: () => {},
    onLater: () => {},
    now: () => new Date(),
  });
  const claim: Claim = claiming({ db: watched, heads, lanes, open, settle, events });
  const all = () => new Set([...lanes.all()].map((lane) => lane.id));
  const leaseOne: LeaseOne = coalescing({ claim, ready, heads, lanesOf: all });
  async function submit(lane: number, count = 1, prio = 5): Promise<void> {
    await insertJobs(
      db,
      Array.from({ length: count }, () => aJob(lane, { priority: prio })),
    );
    ready.announce([{ lane, prio }]);
  }
  const lease = (owner: number, over: Promise<unknown> | null = new Promise(() => {})) =>
    leaseOne({ owner, queues: [], types: [], lease_seconds: 30 }, over);
  const workers = new Workers(db);
  const pull = pulling({
    claim,
    heartbeat: beating(watched),
    standing: async () => null,
    progress: progressing({ db: watched, events }),
    settle,
    inspect: inspecting(watched, naming(lanes, workers)),
    lanes,
    workers,
    ready,
    heads,
    waiters: new Waiters({ db, most: 10, hinted: () => false, onError: fail }),
    secrets: [Buffer.alloc(32, 7)],
    random: Math.random,
    now: () => new Date(),
  });
  return { counted, ready, settle, submit, lease, pull };
}

test('64 waiting pullers cost a trickle of jobs three claims a job at most', async (t) => {
  const { counted, settle, submit, lease } = parts();
  const lane = (await lanes.named('trickle', 'work')).id;
  const total = 200;
  const leases = new Set<string>();
  let done = 0;
  const finished = Promise.withResolvers<void>();
  async function pull(owner: number): Promise<void> {
    for (;;) {
      const [job] = await lease(owner, finished.promise);
      if (job === undefined) return;
      assert.equal(job.owner, owner);
      leases.add(job.lease);
      await settle({ ...noDetails, start: job, status: 'succeeded' }, job);
      if (++done === total) finished.resolve();
    }
  }
  const pullers = owners.map(pull);
  while (done < total) {
    const before = done;
    await submit(lane);
    // A trickle: the next job comes when this one has been taken.
    await until(() => done > before, { everyMs: 2 });
  }
  await Promise.all(pullers);
  assert.equal(leases.size, total, 'every job has a lease of its own');
  const perJob = (counted.get('claim') ?? 0) / total;
  t.diagnostic(`${perJob} claims for each job`);
  assert.ok(perJob <= 3, `${perJob} claims for each job`);
});

test('64 pullers take a backlog of 64 in a few claims, each under its own name', async (t) => {
  const { counted, submit, lease } = parts();
  const lane = (await lanes.named('backlog', 'work')).id;
  await submit(lane, 64);
  const taken = await Promise.all(owners.map((owner) => lease(owner, null)));
  assert.deepEqual(
    taken.flatMap((jobs) => jobs.map((job) => job.owner)).sort(),
    [...owners].sort(),
    'one each',
  );
  assert.equal(new Set(taken.flat().map((job) => job.job_id)).size, 64);
  const claims = counted.get('claim') ?? 0;
  t.diagnostic(`${claims} claims`);
  assert.ok(claims <= 3, `${claims} claims`);
});

test('a caller whose time is over during a claim is given what was claimed for it, and one outside of it nothing', async () => {
  const inClaim = Promise.withResolvers<void>();
  const mayClaim = Promise.withResolvers<void>();
  const { submit, lease } = parts(() => {
    inClaim.resolve();
    return mayClaim.promise;
  });
  const lane = (await lanes.named('gone', 'work')).id;
  const [first, second] = owners as [number, number];
  await submit(lane);
  const over = Promise.withResolvers<void>();
  const served = lease(first, over.promise);
  await inClaim.promise;
  const late = lease(second, over.promise);
  over.resolve();
  await new Promise((resolve) => setImmediate(resolve));
  mayClaim.resolve();
  assert.equal((await served).length, 1, 'somebody must hold the lease, if only to give it back');
  assert.deepEqual(await late, []);
});

test('whoever does not wait is answered, however many wait before it', async () => {
  const { lease } = parts();
  const over = Promise.withResolvers<void>();
  const crowd = Array.from({ length: 1_000 }, (_, n) => lease(owners[n % 64] as number, over.promise));
  const last = lease(owners[0] as number, null);
  const told = await Promise.race([last, delay(5_000, 'still nothing', { ref: false })]);
  over.resolve();
  assert.deepEqual(told, []);
  assert.deepEqual((await Promise.all([...crowd, last])).flat(), []);
});

test('suspects go to one caller each, however many slots a worker has', async () => {
  const { ready, lease } = parts();
  const lane = (await lanes.named('suspects', 'work')).id;
  await db.many(suspectBlocks, [lane, (await insertAndTake(lane, 4)).join()]);
  ready.announce([{ lane, prio: 25 }]);
  const [alice, bob] = owners as [number, number];
  // Alice has three slots.
  const taken = await Promise.all([alice, alice, alice, bob].map((owner) => lease(owner, null)));
  const jobs = taken.flat();
  assert.ok(jobs.every((job) => job.prio === 25));
  assert.deepEqual(jobs.map((job) => job.owner).toSorted(), [alice, bob].toSorted());
  assert.deepEqual(await lease(alice, null), [], 'while she holds one she gets no other');
});

test('what expired in line ends in few statements, however many stand there', async () => {
  const { counted, pull, ready } = parts();
  const lane = (await lanes.named('expired', 'work')).id;
  const expires_at = '2020-01-01T00:00:00Z';
  await insertJobs(
    db,
    Array.from({ length: 200 }, (_, n) => aJob(lane, n === 100 ? {} : { expires_at })),
  );
  ready.announce([{ lane, prio: 5 }]);
  const ask = { worker: 'one', queues: ['expired'], types: [], limit: 200, lease_seconds: 30, wait_ms: 0 };
  assert.equal((await pull.lease(ask)).length, 1, 'the one that did not expire');
  const settles = counted.get('settle_any') ?? 0;
  assert.ok(settles <= 2, `${settles} statements`);
});

test('what 1,000 leases say at once is a handful of statements', async () => {
  const { counted, submit, pull } = parts();
  const lane = (await lanes.named('many', 'work')).id;
  const ask = { worker: 'many', queues: ['many'], types: [], limit: 1_000, lease_seconds: 30, wait_ms: 0 };
  const statements = async (work: () => Promise<unknown>) => {
    counted.clear();
    await work();
    return Object.fromEntries(counted);
  };
  for (const verb of ['complete', 'fail'] as const) {
    await submit(lane, 1_000);
    const leases = await pull.lease(ask);
    assert.equal(leases.length, 1_000);
    const beats = await statements(() => Promise.all(leases.map((job) => pull.heartbeat(job.lease_id, 60))));
    assert.deepEqual(beats, { heartbeat: 1 });
    const reports = await statements(() =>
      Promise.all(leases.map((job) => pull.report(job.lease_id, { progress: '1' }))),
    );
    assert.deepEqual(reports, { write_progress: 2 });
    const endings = await statements(() =>
      Promise.all(
        leases.map((job) =>
          verb === 'complete'
            ? pull.complete(job.lease_id, { result: '1', created_uri: null })
            : pull.fail(job.lease_id, { class: 'retryable', message: 'x', retry_after_seconds: 60 }),
        ),
      ),
    );
    if (verb === 'complete') assert.deepEqual(endings, { settle_succeeded: 1 });
    else {
      assert.equal(endings.find_jobs, 5);
      assert.ok((endings.settle_any ?? 9) <= 5, `${endings.settle_any} settles`);
    }
  }
});

/** Jobs that stand in no block, so that a test can put them where it likes. */
async function insertAndTake(lane: number, count: number): Promise<string[]> {
  const { inserted } = await insertJobs(
    db,
    Array.from({ length: count }, () => aJob(lane)),
  );
  await db.many(dropBlocks, [lane]);
  return inserted.flatMap((one) => (one === null ? [] : [one.id]));
}

const dropBlocks = sql<never>`delete from errand.block where lane = $1`;
const suspectBlocks = sql<never>`
insert into errand.block (ord, lane, prio, timeout_seconds, epoch, attempt, ids)
select n, $1, 25, 60, 3, 3, array[id::bigint] from unnest(string_to_array($2::text, ',')) with ordinality u(id, n)`;
