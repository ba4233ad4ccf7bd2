// What the look for ready heads finds and reads: every head that holds something, and nothing of what was consumed before
// its cursors, also when an open snapshot keeps that in the index.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { findHeads, listHeads } from '../../src/store/claims.ts';
import type { Pool } from '../../src/store/db.ts';
import { insertJobs } from '../../src/store/inserts.ts';
import { Lanes } from '../../src/store/lanes.ts';
import { numbers, type Statement, sql } from '../../src/store/sql.ts';
import { aJob, crowdOf } from '../support/jobs.ts';
import { cloneDatabase, poolOn, type TestDatabase } from '../support/postgres.ts';

let database: TestDatabase;
let db: Pool;
let lanes: number[];

before(async () => {
  database = await cloneDatabase();
  db = poolOn(database.url, 3);
  const all = new Lanes(db);
  lanes = [];
  for (const type of ['a', 'b', 'c', 'd']) lanes.push((await all.named('heads', type)).id);
});

after(async () => {
  await db.end();
  await database.drop();
});

interface Known {
  lane: number;
  prio: number;
  cursor: string;
}

function behind(known: readonly Known[]): string[] {
  const all = [{ lane: 0, prio: 0, cursor: '0' }, ...known];
  return [all.map((one) => one.lane), all.map((one) => one.prio), all.map((one) => one.cursor)].map(
    (column) => numbers(column),
  );
}

async function found(known: readonly Known[]): Promise<string[]> {
  const heads = await db.many(findHeads, behind(known));
  return heads.map(({ lane, prio }) => `${lane}.${prio}`).toSorted();
}

const lastBlock = sql<{ ord: string }>`select max(ord)::text ord from errand.block where lane = $1`;
const emptied = sql<never>`delete from errand.block where lane = $1`;

test('whatever heads are known, those that hold something are found, each once', async () => {
  const [a, b, c, d] = lanes as [number, number, number, number];
  await insertJobs(db, [
    aJob(a),
    aJob(b, { priority: 0 }),
    aJob(b, { priority: 9 }),
    aJob(d, { priority: 3 }),
  ]);
  const all = [`${a}.5`, `${b}.0`, `${b}.9`, `${d}.3`];
  assert.deepEqual((await db.many(listHeads)).map(({ lane, prio }) => `${lane}.${prio}`).toSorted(), all);
  assert.deepEqual(await found([]), all);
  const heads = [a, b, c, d].flatMap((lane) => [0, 3, 5, 9, 25].map((prio) => ({ lane, prio, cursor: '0' })));
  for (let mask = 0; mask < 2 ** heads.length; mask += 7_919) {
    const known = heads.filter((_, i) => mask & (1 << i));
    assert.deepEqual(await found(known), all, JSON.stringify(known));
    assert.deepEqual(await found(known.toReversed()), all);
  }
});

test('a head that holds nothing behind its cursor is not told of', async () => {
  const [a, b, , d] = lanes as [number, number, number, number];
  const { ord } = await db.one(lastBlock, [a]);
  assert.deepEqual(await found([{ lane: a, prio: 5, cursor: ord }]), [`${b}.0`, `${b}.9`, `${d}.3`]);
});

interface Plan {
  'Shared Hit Blocks': number;
  'Shared Read Blocks': number;
}

const explained: Statement<{ 'QUERY PLAN': [{ Plan: Plan }] }> = {
  text: `explain (analyze, buffers, format json) ${findHeads.text}`,
};

async function buffersOf(known: readonly Known[]): Promise<number> {
  const row = await db.one(explained, behind(known));
  const plan = row['QUERY PLAN'][0].Plan;
  return plan['Shared Hit Blocks'] + plan['Shared Read Blocks'];
}

test('what was consumed before a cursor is not read again, though a snapshot keeps it', async (t) => {
  const [, , c] = lanes as [number, number, number, number];
  await db.transaction(async (holder) => {
    await holder.many(sql`set transaction isolation level repeatable read`);
    await holder.many(listHeads);
    await db.many(crowdOf, [c, 5_000]);
    const { ord } = await db.one(lastBlock, [c]);
    await db.many(emptied, [c]);
    const known = lanes.map((lane) => ({ lane, prio: 5, cursor: lane === c ? ord : '0' }));
    const fromTheBeginning = await buffersOf([]);
    const lagged = await buffersOf(known);
    t.diagnostic(`buffers: ${fromTheBeginning} from the beginning, ${lagged} behind the cursors`);
    assert.ok(fromTheBeginning > 100, 'the dead entries are there');
    assert.ok(lagged < 40, `${lagged} buffers`);
  });
});
