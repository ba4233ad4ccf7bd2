// A repeat is made once, with every option of its job, and takes the letter of its job out of the list.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { claimJobs } from '../../src/store/claims.ts';
import type { Pool } from '../../src/store/db.ts';
import { noDetails, settleJobs } from '../../src/store/endings.ts';
import { insertJobs, type NewJob } from '../../src/store/inserts.ts';
import { findJobs, findPayload } from '../../src/store/jobs.ts';
import { Lanes } from '../../src/store/lanes.ts';
import { findSuccessors, repeatJobs } from '../../src/store/repeats.ts';
import { sql } from '../../src/store/sql.ts';
import { aJob } from '../support/jobs.ts';
import { cloneDatabase, poolOn, type TestDatabase } from '../support/postgres.ts';

let database: TestDatabase;
let db: Pool;
let lanes: Lanes;

before(async () => {
  database = await cloneDatabase();
  db = poolOn(database.url, 6);
  lanes = new Lanes(db);
});

after(async () => {
  await db.end();
  await database.drop();
});

/** Jobs that have died, as many as there are options for. */
async function deadOf(
  type: string,
  jobs: readonly Partial<NewJob>[],
): Promise<{ lane: number; ids: string[] }> {
  const lane = (await lanes.named('default', type)).id;
  const { inserted } = await insertJobs(
    db,
    jobs.map((job) => aJob(lane, job)),
  );
  const ids = inserted.map((one) => one?.id as string);
  const ask = { want: ids.length, owners: [1], apart: false, lease_seconds: 60, blocks: ids.length };
  const prios = [...new Set(jobs.map((job) => job.priority ?? 5))];
  const heads = { lanes: prios.map(() => lane), prios, cursors: prios.map(() => '0') };
  const { jobs: claimed } = await claimJobs(db, { ...heads, ...ask });
  const end = { ...noDetails, status: 'dead', class: 'permanent', source: 'handler', error: 'no' } as const;
  await settleJobs(
    db,
    claimed.map((start) => ({ ...end, start })),
    [],
  );
  return { lane, ids };
}

const asking = (ids: readonly string[], over: { lane?: number; callback_lane?: number } = {}) =>
  ids.map((job_id) => ({ job_id, lane: null, callback_lane: null, ...over }));

const countLetters = sql<{ n: number }>`
select count(*)::int n from errand.dead_letter where job_id = any($1::bigint[]) and discarded_by is null`;
const discard = sql<never>`update errand.dead_letter set discarded_by = 7 where job_id = any($1::bigint[])`;
const placesOf = sql<{ id: string; stands: number }>`
select j.id, (select count(*)::int from errand.block b where j.id = any(b.ids) and b.seq = j.blk and b.lane = j.lane) stands
from errand.job j where id = any($1::bigint[])`;

test('a repeat has every option of its job, and stands where it says', async () => {
  const { lane, ids } = await deadOf('whole', [
    {
      priority: 2,
      max_attempts: 3,
      timeout_seconds: 7,
      payload: '{"n": 1.0}',
      tags: ['eu', 'paid'],
      backoff: '{"strategy":"fixed","base_seconds":3,"cap_seconds":900}',
      expires_at: '2999-01-01T00:00:00.000Z',
      options: { content_type: 'text/plain', traceparent: '00-aa-bb-01' },
    },
    {},
  ]);
  const made = await repeatJobs(db, asking(ids), 'undecided');
  assert.deepEqual(
    made.map((one) => [one.job_id, one.lane, one.letter_lane, one.ready]).sort(),
    ids.map((id) => [id, lane, lane, true]),
  );
  const ofFirst = made.find((one) => one.job_id === ids[0])?.id as string;
  const [was, is] = await Promise.all(
    [ids[0], ofFirst].map(async (id) => (await db.many(findJobs, [[id]]))[0]),
  );
  assert.equal(is?.state, 'queued');
  for (const member of [
    'lane',
    'priority',
    'max_attempts',
    'timeout_seconds',
    'expires_at',
    'backoff',
    'tags',
  ] as const)
    assert.deepEqual(is?.[member], was?.[member], member);
  assert.deepEqual(is?.options, { ...was?.options, retry_of: ids[0] });
  assert.equal((await db.one(findPayload, [ofFirst])).payload, '{"n": 1.0}');
  const places = await db.many(placesOf, [made.map((one) => one.id)]);
  assert.deepEqual(
    places.map((place) => place.stands),
    [1, 1],
  );
  assert.equal((await db.one(countLetters, [ids])).n, 0);
});

test('of many at once, by many at once, each is repeated once', async () => {
  const { ids } = await deadOf(
    'crowd',
    Array.from({ length: 60 }, (_, n) => ({ priority: n % 3, timeout_seconds: 60 + (n % 2) })),
  );
  const both = [ids, [...ids].reverse(), ids.slice(20), ids.slice(0, 40).reverse()];
  const made = (await Promise.all(both.map((some) => repeatJobs(db, asking(some), 'undecided')))).flat();
  assert.equal(made.length, 60);
  assert.equal(new Set(made.map((one) => one.job_id)).size, 60);
  assert.deepEqual(await repeatJobs(db, asking(ids), 'undecided'), []);
  const successors = await db.many(findSuccessors, [ids]);
  assert.deepEqual(
    new Map(successors.map((one) => [one.job_id, one.id])),
    new Map(made.map((one) => [one.job_id, one.id])),
  );
  const places = await db.many(placesOf, [made.map((one) => one.id)]);
  assert.ok(places.every((place) => place.stands === 1));
});

test('a letter that was discarded is not redriven, but its job can be run again', async () => {
  const { ids } = await deadOf('dropped', [{}, {}]);
  await db.many(discard, [ids.slice(0, 1)]);
  const made = await repeatJobs(db, asking(ids), 'undecided');
  assert.deepEqual(
    made.map((one) => one.job_id),
    ids.slice(1),
  );
  const [again] = await repeatJobs(db, asking(ids), 'unhappy');
  assert.deepEqual([again?.job_id, again?.letter_lane], [ids[0], null]);
});

test('what has not died, and what is not there, is not repeated', async () => {
  const lane = (await lanes.named('default', 'alive')).id;
  const { inserted } = await insertJobs(db, [aJob(lane)]);
  assert.deepEqual(await repeatJobs(db, asking([inserted[0]?.id as string, '999999']), 'unhappy'), []);
});

test('a repeat may stand in another lane, come later, and try more often', async () => {
  const callback = { url: 'http://127.0.0.1:9/', events: ['dead'], lane: 1 } as const;
  const { ids } = await deadOf('elsewhere', [{ options: { callback } }]);
  const [other, news] = await Promise.all(['a', 'b'].map((queue) => lanes.named(queue, 'elsewhere')));
  const run_at = '2999-01-01T00:00:00.000Z';
  const asked = asking(ids, { lane: other?.id as number, callback_lane: news?.id as number });
  const [made] = await repeatJobs(db, asked, 'undecided', { run_at, max_attempts: 2 });
  assert.equal(made?.ready, false);
  assert.ok((made?.due_in_ms ?? 0) > 1e12);
  const [facts] = await db.many(findJobs, [[made?.id]]);
  const { state, lane, max_attempts, options } = facts ?? {};
  assert.deepEqual([state, lane, max_attempts], ['scheduled', other?.id, 2]);
  assert.equal(facts?.run_at?.toISOString(), run_at);
  assert.equal(options?.callback?.lane, news?.id);
});
