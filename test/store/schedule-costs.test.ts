// What schedules cost among 100,000 of them with a ledger of 200,000 rows: buffers, counted by EXPLAIN on the plans the program
// runs with, a hot one made while the tables were empty, and by fresh statistics. A statement that reads a table as a whole,
// or rows it has no use for, fails here.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import pg from 'pg';
import {
  findSchedule,
  findSchedules,
  lockSchedule,
  newestSlotFrom,
  newestSlots,
  noteJob,
  scheduleId,
  walkSchedules,
  walkSlots,
} from '../../src/store/schedules.ts';
import { fixedPlans, startupOptions } from '../../src/store/session.ts';
import {
  advanceSchedules,
  awaitSchedules,
  dueSchedules,
  findSlots,
  forgetSlots,
  insertSlots,
  lockSchedules,
  oldestDue,
  postponeSchedule,
} from '../../src/store/slots.ts';
import type { Statement } from '../../src/store/sql.ts';
import { cloneDatabase, type TestDatabase } from '../support/postgres.ts';

let database: TestDatabase;
let client: pg.Client;

before(async () => {
  database = await cloneDatabase();
  client = new pg.Client({ connectionString: database.url, options: startupOptions(fixedPlans) });
  client.on('error', () => {});
  await client.connect();
});

after(async () => {
  await client.end().catch(() => {});
  await database.drop();
});

// 500 schedules are due, a hundred of all have 2,000 slots each, and the oldest 2,000 rows were decided 100 days ago.
const fill = `
insert into errand.schedule (name, created_at, changed_at, definition, payload, watermark, next_slot, next_due, failing_since)
select 's' || lpad(n::text, 6, '0'), now(), now(), '{"overlap":"allow"}', '1', now(), now(), now() + (n - 500) * interval '100 ms',
  case when n % 20000 = 0 then now() end
from generate_series(1, 100000) n;
insert into errand.slot (schedule_id, slot, due_at, decided_at, outcome, job_id)
select s, t, t, case when n > 1980 then now() - interval '100 days' else t end, 'on_time', 1
from generate_series(1, 2000) n, generate_series(1, 100) s, lateral (select date_trunc('minute', now()) - n * interval '1 min' t) v`;

const list = (count: number, value: (n: number) => string | number) =>
  `{${Array.from({ length: count }, (_, n) => value(n + 1)).join(',')}}`;
const ids = (count: number) => list(count, (n) => n);
const minutes = (count: number) => list(count, (n) => new Date(n * 60_000).toISOString());
const nulls = (count: number) => list(count, () => 'null');
const empties = (count: number) => list(count, () => '"{}"');
const locked = [ids(500), list(500, () => 1), list(500, () => 0), list(500, () => 'true')];

/** Statements with what they are given, how many rows they find, and the most buffers they may touch. */
const costs: [
  what: string,
  statement: Statement<unknown>,
  params: (string | number)[],
  rows: number,
  most: number,
][] = [
  ['what is due', dueSchedules, [400, 60], 400, 60],
  ['what is due, none', dueSchedules, [400, 0], 1, 30],
  ['the oldest that is due', oldestDue, [], 1, 60],
  ['the lock of those that fire', lockSchedules, locked, 500, 3_000],
  ['the lock that waits', awaitSchedules, locked, 500, 3_000],
  [
    'the advance of those that fired',
    advanceSchedules,
    [ids(500), minutes(500), nulls(500), minutes(500), minutes(500), ...Array(4).fill(empties(500)), 50],
    0,
    12_000,
  ],
  [
    'rows for the ledger',
    insertSlots,
    [
      ...[ids(500), minutes(500), minutes(500), list(500, () => 'skipped'), list(500, () => 'paused')],
      ...[nulls(500), nulls(500), ids(500), 1],
    ],
    0,
    4_500,
  ],
  ['slots that are known', findSlots, [7, minutes(500)], 0, 60],
  ['a schedule put off', postponeSchedule, [7, 30], 0, 80],
  ['what is old enough to forget', forgetSlots, [90, 1_000], 1, 9_000],
  ['what is old enough to forget, nothing', forgetSlots, [1_000, 1_000], 1, 60],
  ['a schedule', findSchedule, [0, 's050000'], 1, 25],
  ['its number', scheduleId, [0, 's050000'], 1, 25],
  ['its lock', lockSchedule, [0, 's050000'], 1, 30],
  ['its job by hand', noteJob, [7, 1, 50], 0, 80],
  ['a page of schedules', walkSchedules, [0, 's050000', 1_000], 1_000, 150],
  ['their records', findSchedules, [ids(51)], 51, 250],
  ['their newest slots', newestSlots, [ids(100)], 100, 600],
  ['a page of a ledger', walkSlots, [7, 'infinity', '-infinity', 51], 51, 100],
  ['the newest slot by hand', newestSlotFrom, [7, '2020-01-01T00:00:00Z'], 1, 25],
];

interface Node {
  'Node Type': string;
  'Relation Name'?: string;
  'Index Cond'?: string;
  'Actual Rows': number;
  'Shared Hit Blocks': number;
  'Shared Read Blocks': number;
  Plans?: Node[];
}

const kept = new Set<string>();

/** Runs a statement, a hot one by the plan that was made when it first ran, and takes back what it wrote. */
async function planOf(
  { text, name = 'once' }: Statement<unknown>,
  params: readonly (string | number)[],
): Promise<Node> {
  if (!kept.has(name)) await client.query(`prepare ${name} as ${text}`);
  if (name !== 'once') kept.add(name);
  const values = params.map((value) => client.escapeLiteral(String(value)));
  await client.query('begin');
  const { rows } = await client.query(
    `explain (analyze, buffers, format json) execute ${name}${values.length > 0 ? `(${values})` : ''}`,
  );
  await client.query('rollback');
  if (name === 'once') await client.query('deallocate once');
  return rows[0]['QUERY PLAN'][0].Plan;
}

/** Tables that are read from end to end: an index without a condition is read in its order, so something must stop it. */
function readWhole(node: Node, limited = false): string[] {
  const isLimited = limited || node['Node Type'] === 'Limit';
  const below = (node.Plans ?? []).flatMap((one) => readWhole(one, isLimited));
  const isScan = /^(Seq|Index|Index Only) Scan$/.test(node['Node Type']);
  return isScan && node['Index Cond'] === undefined && !isLimited
    ? [`${node['Relation Name']}`, ...below]
    : below;
}

for (const statistics of ['made while everything was empty', 'fresh'] as const) {
  test(`nobody reads all schedules or all of the ledger, with statistics ${statistics}`, async () => {
    if (statistics === 'fresh') await client.query('vacuum analyze errand.schedule, errand.slot');
    else {
      for (const table of ['schedule', 'slot'])
        await client.query(`alter table errand.${table} set (autovacuum_enabled = false)`);
      await client.query('vacuum analyze');
      for (const [, statement, params] of costs) await planOf(statement, params);
      await client.query(fill);
    }
    const faults: string[] = [];
    for (const [what, statement, params, rows, most] of costs) {
      const plan = await planOf(statement, params);
      const buffers = plan['Shared Hit Blocks'] + plan['Shared Read Blocks'];
      if (plan['Actual Rows'] !== rows) faults.push(`${what}: ${plan['Actual Rows']} rows, not ${rows}`);
      if (buffers > most) faults.push(`${what}: ${buffers} buffers, at most ${most}`);
      for (const table of readWhole(plan)) faults.push(`${what}: reads ${table} as a whole`);
    }
    assert.deepEqual(faults, []);
  });
}
