// The promise of unique keys under concurrency: whatever submitters, claimers, cancellers, losses, failures and the chores do
// to each other, two jobs of a key never run at once, each job runs or is told why not, and nothing is left behind.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { cancelling } from '../../src/actions/cancel.ts';
import { type Keys, keeping } from '../../src/actions/keys.ts';
import { retried } from '../../src/actions/known.ts';
import { Ready } from '../../src/actions/ready.ts';
import { keepEach } from '../../src/actions/unique.ts';
import { Heads } from '../../src/domain/heads.ts';
import type { Unique } from '../../src/domain/unique.ts';
import { EventBus } from '../../src/events.ts';
import { type Claimed, claimJobs, listHeads, promoteDue } from '../../src/store/claims.ts';
import type { Pool } from '../../src/store/db.ts';
import { type Ending, noDetails, settleJobs } from '../../src/store/endings.ts';
import { findJobs } from '../../src/store/jobs.ts';
import { Lanes, Workers } from '../../src/store/lanes.ts';
import { sql } from '../../src/store/sql.ts';
import { aJob } from '../support/jobs.ts';
import { cloneDatabase, poolOn, type TestDatabase } from '../support/postgres.ts';

let database: TestDatabase;
let db: Pool;
let lanes: Lanes;
let keys: Keys;
let ready: Ready;
const events = new EventBus();

before(async () => {
  database = await cloneDatabase();
  db = poolOn(database.url, 16);
  lanes = new Lanes(db);
  const onError = assert.ifError;
  ready = new Ready({ heads: new Heads(), notify: async () => {}, meet: () => undefined, onError });
  keys = keeping({
    db,
    lanes,
    ready,
    events,
    onError,
    onEnded: () => {},
    onLater: () => {},
    onFree: () => {},
  });
});

after(async () => {
  await db.end();
  await database.drop();
});

// The same turns each time; who meets whom is up to the database.
function numbersFrom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state * 1_103_515_245 + 12_345) % 2_147_483_648;
    return state / 2_147_483_648;
  };
}

async function chores(): Promise<void> {
  const [row] = await db.many(promoteDue, [100, 1_000_000_000]);
  if (row?.blocked) await keys.letBlockedGo(true);
  if (row?.keyed) await keys.letDueIn();
}

const conflicts = ['return', 'reject', 'replace', 'rerun'] as const;
const wide: Unique['while'] = ['scheduled', 'queued', 'running', 'retrying'];
const narrow: Unique['while'] = ['queued', 'running'];

for (const [name, holding] of Object.entries({ wide, narrow })) {
  test(`two jobs of a key never run at once, and none is lost (${name})`, async () => {
    const owner = await new Workers(db).named(name);
    const lane = (await lanes.named(name, 'work')).id;
    const cancel = cancelling({ db, lanes, events, ready, onEnded: () => {}, onRequested: () => {} });
    const running = new Map<string, string>();
    const newest = new Map<string, bigint>();
    const made = new Map<string, string>();
    const answered: string[] = [];
    let submitting = 6;
    let settledAll = false;

    async function submitter(seed: number): Promise<void> {
      const random = numbersFrom(seed);
      for (let n = 0; n < 40; n++) {
        const batch = Array.from({ length: 1 + Math.floor(random() ** 2 * 8) }, () =>
          aJob(lane, {
            max_attempts: 3,
            ...(random() < 0.3 ? { delay_ms: random() * 100 } : {}),
            options: {
              unique: {
                key: `${name}-${Math.floor(random() * 5)}`,
                while: holding,
                on_conflict: conflicts[Math.floor(random() * 4)] as Unique['on_conflict'],
              },
            },
          }),
        );
        const all = await retried(() => db.transaction((tx) => keepEach(tx, batch)));
        keys.tell(all, performance.now());
        all.kept.forEach((one, i) => {
          assert.ok(one !== undefined);
          if (one.kind === 'made') made.set(one.made.id, batch[i]?.options?.unique?.key as string);
          else answered.push(one.kind === 'known' ? 'known' : one.id);
        });
      }
      submitting--;
    }

    async function claimer(seed: number): Promise<void> {
      const random = numbersFrom(seed);
      while (!settledAll) {
        const heads = (await db.many(listHeads)).filter((head) => head.lane === lane);
        const { jobs } =
          heads.length === 0
            ? { jobs: [] as Claimed[] }
            : await claimJobs(db, {
                lanes: heads.map((head) => head.lane),
                prios: heads.map((head) => head.prio),
                cursors: heads.map(() => '0'),
                want: 3,
                owners: [owner],
                apart: false,
                lease_seconds: 60,
                blocks: 3,
              });
        for (const job of jobs) {
          const key = job.options?.unique?.key as string;
          assert.equal(running.get(key), undefined, `job ${job.job_id} runs beside ${running.get(key)}`);
          running.set(key, job.job_id);
          // One that leaves its key while it waits for a moment comes back after others.
          if (holding === wide) {
            const id = BigInt(job.job_id);
            assert.ok(id >= (newest.get(key) ?? 0n), `job ${id} starts after job ${newest.get(key)}`);
            newest.set(key, id);
          }
        }
        await new Promise((resolve) => setTimeout(resolve, random() * 10));
        for (const job of jobs) running.delete(job.options?.unique?.key as string);
        if (jobs.length > 0)
          await settleJobs(
            db,
            jobs.map((start) => endOf(start, random())),
            [],
          );
      }
    }

    async function canceller(): Promise<void> {
      for (let n = 0; submitting > 0; n++) {
        const ids = [...made.keys()];
        const id = ids[(n * 7) % Math.max(1, ids.length)];
        if (id !== undefined && n % 3 === 0) await cancel.cancelUnstarted(id);
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
    }

    async function keeper(): Promise<void> {
      while (!settledAll) {
        await chores();
        const open = submitting > 0 || (await db.one(openJobs, [[...made.keys()]])).n > 0;
        if (!open) settledAll = true;
        await new Promise((resolve) => setTimeout(resolve, 10));
      }
    }

    await Promise.all([
      ...[1, 2, 3, 4, 5, 6].map(submitter),
      ...[7, 8, 9].map(claimer),
      canceller(),
      keeper(),
      keeper(),
    ]);

    const facts = await db.many(findJobs, [[...made.keys()]]);
    assert.equal(facts.length, made.size);
    for (const { id, state, epoch, error } of facts) {
      assert.ok(['succeeded', 'dead', 'cancelled'].includes(state), `job ${id} is ${state}`);
      const reason = error ?? 'cancelled by the canceller';
      if (state === 'cancelled' && epoch === 1) assert.match(reason, /^(superseded by job \d+|cancelled by)/);
      const next = /superseded by job (\d+)/.exec(error ?? '')?.[1];
      if (next !== undefined) assert.ok(made.has(next), `job ${id} names job ${next}, which is not there`);
    }
    for (const id of answered) assert.ok(made.has(id), `a caller was told of job ${id}, which is not there`);
    assert.ok(answered.length > 20, 'hardly anybody met a holder: the test proves little');
    assert.equal((await db.one(rest)).n, 0);
    while ((await keys.sweep.run(true)).moved > 0);
    assert.equal((await db.one(rows)).n, 0);
  });
}

/** Mostly a success; also a failure with another attempt, now or later, and a loss. */
function endOf(start: Claimed, chance: number): Ending {
  if (chance < 0.7) return { ...noDetails, start, status: 'succeeded' };
  if (start.attempt >= 3)
    return { ...noDetails, start, status: 'dead', class: 'retryable', source: 'worker' };
  const again = { class: 'retryable', source: 'worker', delay_ms: chance < 0.8 ? 0 : 30 } as const;
  if (chance < 0.9) return { ...noDetails, ...again, start, status: 'retry' };
  return { ...noDetails, start, status: 'lost', class: 'lost', source: 'errand', delay_ms: 0 };
}

const openJobs = sql<{ n: number }>`
select count(*)::int n from errand.job_facts($1::bigint[]) where state not in ('succeeded', 'dead', 'cancelled', 'expired')`;

const rest = sql<{ n: number }>`
select ((select count(*) from errand.blocked) + (select count(*) from errand.later) + (select count(*) from errand.block))::int n`;

const rows = sql<{ n: number }>`select count(*)::int n from errand.uniq`;

test('a submit that is rolled back leaves no key, no job and no superseded one', async () => {
  const lane = (await lanes.named('undone', 'work')).id;
  const unique: Unique = { key: 'undone', while: wide, on_conflict: 'replace' };
  const old = await db.transaction((tx) => keepEach(tx, [aJob(lane, { options: { unique } })]));
  const undone = db.transaction(async (tx) => {
    const other = { ...unique, key: 'other' };
    const all = await keepEach(
      tx,
      [unique, other].map((one) => aJob(lane, { options: { unique: one } })),
    );
    assert.equal(all.superseded.length, 1);
    throw new Error('taken back');
  });
  await assert.rejects(undone, /taken back/);
  const [first] = old.kept;
  const id = first?.kind === 'made' ? first.made.id : '';
  assert.equal((await db.one(findJobs, [[id]])).state, 'queued');
  assert.equal((await db.one(rows)).n, 1);
});
