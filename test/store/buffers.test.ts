// What the hot statements cost among 200,000 jobs with a backlog: buffers, counted by EXPLAIN on the plans the program runs
// with. Once with plans made while the tables were empty and kept without a look at statistics, as by a process that was
// there first; once with plans made on fresh statistics. A statement that reads more than its own jobs fails here.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import pg from 'pg';
import { findStanding, takeApart } from '../../src/store/apart.ts';
import { claim, extendLeases, findHeads, heartbeat, listHeads, promoteDue } from '../../src/store/claims.ts';
import { findAbandoned, settleAny, settleSucceeded } from '../../src/store/endings.ts';
import { findHistories, findVersions } from '../../src/store/history.ts';
import { insertAlike, insertFull, insertJobs, insertPlain, type NewJob } from '../../src/store/inserts.ts';
import { findEnded, findJobs } from '../../src/store/jobs.ts';
import { writeProgress } from '../../src/store/progress.ts';
import { fixedPlans, startupOptions } from '../../src/store/session.ts';
import type { Statement } from '../../src/store/sql.ts';
import { aJob } from '../support/jobs.ts';
import { cloneDatabase, type TestDatabase } from '../support/postgres.ts';

let database: TestDatabase;
let early: pg.Client;

before(async () => {
  database = await cloneDatabase();
  early = await connected();
  await early.query(unwatched);
  await prepareAll(early);
  // Run once, so that the plan is made and kept.
  for (const { name, params } of cases) await costOf(early, name, params);
  await early.query(fill);
});

after(async () => {
  await early.end().catch(() => {});
  await database.drop();
});

test('plans made on empty tables and kept touch no more than their own jobs', () => withinBounds(early));

test('plans made on fresh statistics touch no more than their own jobs', async () => {
  await early.query('vacuum (analyze)');
  const late = await connected();
  try {
    await prepareAll(late);
    await withinBounds(late);
  } finally {
    await late.end();
  }
});

// Jobs 1 to 160,000 have ended, the next 30,000 stand in 300 blocks, the next 9,000 in 900 leases, the last 1,000 in later.
const fill = `
insert into errand.job (id, blk, lane, timeout_seconds, priority, max_attempts, payload)
select i, case when i > 199000 then 0 else (i + 99) / 100 end, 1, 60, 5, 8, repeat('x', 220) from generate_series(1, 200000) i;
insert into errand.outcome (job_id, epoch, attempt, lane, prio, worker, started_at, status, result)
select i, 1, 1, 1, 5, 1, now(), case when i % 100 = 0 then 'dead' else 'succeeded' end::errand.outcome_status, '1'
from generate_series(1, 160000) i;
insert into errand.block (seq, ord, lane, prio, timeout_seconds, ids)
select s, s, 1, 5, 60, array(select generate_series(s * 100 - 99, s * 100)) from generate_series(1601, 1900) s;
insert into errand.lease (id, blk, until, deadline, owner, lane, epoch, prio, attempt, ids) overriding system value
select l, (190000 + l * 10 + 99) / 100, now() + interval '1 hour', now() + interval '1 hour', 1, 1, 1, 5, 1,
  array(select generate_series(190000 + l * 10 - 9, 190000 + l * 10)) from generate_series(1, 900) l;
insert into errand.later (job_id, run_at, lane, timeout_seconds, epoch, prio, attempt)
select i, now() + (i - 199500) * interval '1 s', 1, 60, 1, 5, 1 from generate_series(199001, 200000) i;
select setval('errand.job_id_seq', 200001), setval('errand.block_seq', 3000), setval('errand.lease_id_seq', 1000);`;

// Statistics stay as stale as they are until the test says otherwise.
const unwatched = ['job_0', 'outcome_0', 'block', 'lease', 'later', 'place', 'idem', 'progress']
  .map((table) => `alter table errand.${table} set (autovacuum_enabled = off)`)
  .join(';');

const range = (from: number, count: number) => Array.from({ length: count }, (_, i) => from + i);
const times = <T>(count: number, value: T) => Array.from({ length: count }, () => value);
const hundred = range(190_001, 100);
const leases = range(1, 10);
const inTens = hundred.map((_, i) => 1 + Math.floor(i / 10));
const plain = times(100, aJob(1));
const ranked = plain.map((job, i) => ({ ...job, priority: 4 + (i % 2) }));
const keyed = plain.map((job, i) => ({
  ...job,
  idempotency: { tenant: 0, route: 'jobs', key: String(i), print: Buffer.from('print') },
}));

/** What `insertJobs` would send. */
async function insertOf(jobs: readonly NewJob[]): Promise<readonly unknown[]> {
  let sent: readonly unknown[] = [];
  const keep = <Row>(_: Statement<Row>, params: readonly unknown[] = []) => {
    sent = params;
    return Promise.reject<never>(new Error('only looked at'));
  };
  const looked = { many: keep, maybeOne: keep, one: keep, transaction: () => Promise.reject(new Error()) };
  await insertJobs(looked, jobs).catch(() => {});
  return sent;
}

interface Case {
  name: string;
  statement: Statement<unknown>;
  params: readonly unknown[];
  /** Most buffers it may touch, the tables being full: about twice what it does. */
  most: number;
}

const cases: readonly Case[] = [
  { name: 'insert of 100 jobs alike', statement: insertAlike, params: await insertOf(plain), most: 1_100 },
  { name: 'insert of 100 plain jobs', statement: insertPlain, params: await insertOf(ranked), most: 1_100 },
  { name: 'insert of 100 jobs with keys', statement: insertFull, params: await insertOf(keyed), most: 1_800 },
  { name: 'claim of 250', statement: claim, params: [[1], [5], [0], 250, [1], 60, 4, false], most: 2_100 },
  {
    name: 'claim of 10, apart',
    statement: claim,
    params: [[1], [5], [0], 10, range(1, 10), 60, 2, true],
    most: 200,
  },
  {
    name: 'settle of 100 successes',
    statement: settleSucceeded,
    params: [leases, range(0, 10).map((i) => i * 10 + 1), hundred, null, leases],
    most: 700,
  },
  {
    name: 'settle of 100 to be tried again',
    statement: settleAny,
    params: [
      ...[
        leases,
        leases,
        hundred,
        inTens,
        times(100, 1),
        times(100, 1),
        times(100, 1),
        times(100, 5),
        times(100, 1),
      ],
      ...[
        times(100, 1e12),
        times(100, null),
        times(100, 'retry'),
        times(100, 'retryable'),
        times(100, 'handler'),
      ],
      ...[times(100, null), times(100, 'no'), times(100, null), times(100, 60_000), times(100, '0a')],
    ],
    most: 3_800,
  },
  { name: 'promote of 100', statement: promoteDue, params: [100, 3_600], most: 1_600 },
  { name: 'look for lost leases', statement: findAbandoned, params: [0, 100], most: 60 },
  { name: 'facts of 100 jobs', statement: findJobs, params: [range(100, 100)], most: 2_800 },
  { name: 'facts of 100 running jobs', statement: findJobs, params: [hundred], most: 3_600 },
  { name: 'which of 100 have ended', statement: findEnded, params: [range(100, 100)], most: 800 },
  { name: 'heads', statement: listHeads, params: [], most: 12 },
  {
    name: 'heads behind cursors',
    statement: findHeads,
    params: [
      [0, 1],
      [0, 5],
      ['0', '0'],
    ],
    most: 18,
  },
  {
    name: 'heartbeat of 100',
    statement: heartbeat,
    params: [leases, times(10, 60), hundred, times(100, 1)],
    most: 800,
  },
  {
    name: 'renewal of 10 leases of 100 starts',
    statement: extendLeases,
    params: [leases, 60, hundred, times(100, 1)],
    most: 720,
  },
  { name: 'hand-over of 100', statement: takeApart, params: [hundred, times(100, 1)], most: 2_200 },
  { name: 'where 100 stand', statement: findStanding, params: [hundred, times(100, 1)], most: 2_200 },
  {
    name: 'progress of 10',
    statement: writeProgress,
    params: [times(10, 1), range(190_001, 10), times(10, 1), times(10, '1'), times(10, null)],
    most: 100,
  },
  { name: 'versions of 100 jobs', statement: findVersions, params: [hundred], most: 3_000 },
  {
    name: 'histories of 100 jobs',
    statement: findHistories,
    params: [range(100, 100), times(100, 1), 101],
    most: 4_600,
  },
];

async function withinBounds(client: pg.Client): Promise<void> {
  const faults: string[] = [];
  for (const { name, params, most } of cases) {
    const { buffers, readWhole } = await costOf(client, name, params);
    for (const table of readWhole) faults.push(`${name}: reads all of ${table}`);
    if (buffers > most) faults.push(`${name}: ${buffers} buffers, ${most} are allowed`);
    if (buffers * 10 < most) faults.push(`${name}: ${buffers} buffers, so it had nothing to do`);
  }
  assert.deepEqual(faults, []);
}

async function prepareAll(client: pg.Client): Promise<void> {
  for (const { name, statement } of cases) await client.query(`prepare "${name}" as ${statement.text}`);
}

interface Node {
  'Node Type': string;
  'Relation Name'?: string;
  'Shared Hit Blocks': number;
  'Shared Read Blocks': number;
  Plans?: Node[];
}

/** Runs it and takes it back. */
async function costOf(client: pg.Client, name: string, params: readonly unknown[]) {
  await client.query('begin');
  try {
    const values = params.map((value) => literalOf(client, value)).join(', ');
    const { rows } = await client.query(
      `explain (analyze, buffers, format json) execute "${name}"${params.length > 0 ? `(${values})` : ''}`,
    );
    const plan = rows[0]['QUERY PLAN'][0].Plan as Node;
    return { buffers: touched(plan), readWhole: scanned(plan) };
  } finally {
    await client.query('rollback');
  }
}

/**
 * The buffers of a plan, node by node: what writes in a `with` that nothing reads is run after the rest and is missing in
 * the sum of the top. What a CTE Scan shows is what its CTE shows.
 */
function touched(node: Node): number {
  const below = node.Plans ?? [];
  const own = inclusive(node) - below.reduce((sum, one) => sum + inclusive(one), 0);
  const self = node['Node Type'] === 'CTE Scan' ? 0 : Math.max(0, own);
  return below.reduce((sum, one) => sum + touched(one), self);
}

function inclusive(node: Node): number {
  return node['Shared Hit Blocks'] + node['Shared Read Blocks'];
}

function scanned(node: Node): string[] {
  const own = node['Node Type'] === 'Seq Scan' ? [node['Relation Name'] ?? '?'] : [];
  return [...own, ...(node.Plans ?? []).flatMap(scanned)];
}

function literalOf(client: pg.Client, value: unknown): string {
  if (value === null) return 'null';
  return client.escapeLiteral(
    Array.isArray(value) ? `{${value.map((one) => JSON.stringify(one))}}` : String(value),
  );
}

async function connected(): Promise<pg.Client> {
  const client = new pg.Client({ connectionString: database.url, options: startupOptions(fixedPlans) });
  client.on('error', () => {});
  await client.connect();
  return client;
}
