// Counters are held against the truth in lanes of any size, and where that cannot be, it is said.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { recounting } from '../../src/actions/recount.ts';
import { EventBus } from '../../src/events.ts';
import type { Pool } from '../../src/store/db.ts';
import { Lanes } from '../../src/store/lanes.ts';
import { sql } from '../../src/store/sql.ts';
import { cloneDatabase, poolOn, type TestDatabase } from '../support/postgres.ts';

let database: TestDatabase;
let db: Pool;

before(async () => {
  database = await cloneDatabase();
  db = poolOn(database.url, 2);
});

after(async () => {
  await db.end();
  await database.drop();
});

/** In lane $1 $2 rows of each kind: blocks of four jobs, jobs that wait, dead letters. */
const fill = sql<never>`
with n as (select $1::int * 1000 + generate_series(1, $2::int) i),
b as (
  insert into errand.block (ord, lane, timeout_seconds, prio, ids)
  select i, $1, 60, 5, array[i * 10, i * 10 + 1, i * 10 + 2, i * 10 + 3] from n),
w as (
  insert into errand.later (job_id, run_at, lane, timeout_seconds, epoch, prio, attempt)
  select i, errand.now() + interval '1 h', $1, 60, 1, 5, 1 + i % 2 from n)
insert into errand.dead_letter (job_id, lane, fingerprint, died_at) select i, $1, '', errand.now() from n`;

const counted = sql<Record<string, number>>`
select queued::int, scheduled::int, retrying::int, running::int, dead::int from errand.depth where lane = $1::int`;

/** The chore, with lanes of more than two rows being large, and what it told. */
function aRecount(read: Pool = db) {
  const events = new EventBus();
  const told: string[] = [];
  events.on('counter.drifted', ({ queue, state, by }) => told.push(`${queue} ${state} ${by}`));
  events.on('recount.gave_up', ({ queue, type }) => told.push(`${queue} ${type} given up`));
  return { chore: recounting({ db, read, events, most_rows: 2 }), told };
}

test('a lane with more rows than are counted beside others is recounted alone, and mended like them', async () => {
  const lanes = new Lanes(db);
  const large = (await lanes.named('large', 'work')).id;
  const small = (await lanes.named('small', 'work')).id;
  await db.many(fill, [large, 6]);
  await db.many(fill, [small, 2]);
  const { chore, told } = aRecount();
  await chore.run(false);
  assert.deepEqual(told, [], 'one look is not enough');
  await chore.run(false);
  assert.deepEqual(told.sort(), [
    'large dead -6',
    'large queued -24',
    'large retrying -3',
    'large scheduled -3',
    'small dead -2',
    'small queued -8',
    'small retrying -1',
    'small scheduled -1',
  ]);
  assert.deepEqual(await db.one(counted, [large]), {
    ...{ queued: 24, scheduled: 3, retrying: 3, running: 0, dead: 6 },
  });
  told.length = 0;
  await chore.run(false);
  await chore.run(false);
  assert.deepEqual(told, []);
});

test('what is under way in one state hides no drift of another', async () => {
  const busy = (await new Lanes(db).named('busy', 'work')).id;
  await db.many(fill, [busy, 2]);
  await db.many(
    sql`insert into errand.tally (lane, slot, process, arrived, started, succeeded) values ($1, errand.now(), 1, 100, 100, 100)`,
    [busy],
  );
  const { chore, told } = aRecount();
  await chore.run(false);
  await chore.run(false);
  assert.deepEqual(told.sort(), ['busy dead -2', 'busy retrying -1']);
});

test('a large lane that cannot be counted in time is told of, and holds up no other', async () => {
  const lanes = new Lanes(db);
  const huge = (await lanes.named('huge', 'work')).id;
  const beside = (await lanes.named('beside', 'work')).id;
  await db.many(fill, [huge, 3]);
  await db.many(fill, [beside, 1]);
  const tooSlow: Pool['one'] = () =>
    db.transaction(async (tx) => {
      await tx.many(sql`set local statement_timeout = 5`);
      return tx.one(sql<never>`select pg_sleep(5)`);
    });
  const { chore, told } = aRecount({ ...db, one: tooSlow });
  await chore.run(false);
  await chore.run(false);
  assert.ok(told.includes('huge work given up'), told.join());
  assert.ok(told.includes('beside queued -4'), told.join());
  assert.ok(!told.some((line) => /^huge (queued|dead)/.test(line)), told.join());
});
