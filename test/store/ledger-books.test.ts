// The checker of the schedule drills notices: each fault it is there for is planted in books that were right.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import pg from 'pg';
import { balance, verdictOn } from '../support/ledger-books.ts';
import { cloneDatabase, type TestDatabase } from '../support/postgres.ts';

const plan = { name: 'each-second', cron: '* * * * * *', timezone: 'Asia/Kolkata' };
const from = new Date('2030-01-01T00:00:00Z');
const to = new Date('2030-01-01T00:00:09Z');

/** Ten slots, two seconds late, with their jobs 1 to 10. */
const right = `
  insert into errand.leader (room, term, holder, since, until, length) values ('dispatcher', 2, 'a:1:b', now(), now(), '5 s');
  insert into errand.lane (queue, route) values ('default', 'slot');
  insert into errand.schedule (name, definition, payload, watermark) values ('each-second', '{}', 'null', now());
  create temp table x as select n, '2030-01-01T00:00:00Z'::timestamptz + (n - 1) * interval '1 s' slot,
    (select id from errand.lane where route = 'slot') lane from generate_series(1, 10) n;
  insert into errand.job (id, blk, lane, timeout_seconds, priority, max_attempts, payload, options)
    select n, 1, lane, 60, 5, 8, 'null', jsonb_build_object('schedule', jsonb_build_object('name', 'each-second', 'slot', slot)) from x;
  insert into errand.outcome (job_id, epoch, lane, status, attempt, prio, result)
    select n, 1, lane, 'succeeded', 1, 5, to_char(slot at time zone 'UTC', '"\\""YYYY-MM-DD"T"HH24:MI:SS.MS"Z\\""') from x;
  insert into errand.slot (schedule_id, slot, due_at, decided_at, outcome, job_id, term)
    select s.id, slot, slot, slot + interval '2 s', 'late', n, 1 from errand.schedule s, x`;

const copyOfJob10 = `
  insert into errand.job (id, blk, lane, timeout_seconds, priority, max_attempts, payload, options)
    select 11, blk, lane, timeout_seconds, priority, max_attempts, payload, options from errand.job where id = 10`;

const faults: readonly (readonly [string, string, RegExp])[] = [
  ['a slot without a row', 'delete from errand.slot where job_id = 3', /^1 slots that are not in the ledger/],
  [
    'a row for what was never due',
    `insert into errand.slot (schedule_id, slot, due_at, outcome, job_id)
     select schedule_id, slot + interval '1 s', due_at, outcome, job_id from errand.slot where job_id = 10`,
    /^1 slots that were never due/,
  ],
  [
    'a skipped slot',
    `update errand.slot set outcome = 'skipped', reason = 'misfire' where job_id = 3`,
    /^1 slots that were skipped/,
  ],
  ['a slot without its job', 'delete from errand.job where id = 3', /^1 slots without their job/],
  [
    'a slot with the job of another',
    'update errand.slot set job_id = 4 where job_id = 3',
    /^1 slots without/,
  ],
  ['a second job for a slot', copyOfJob10, /^1 slots with two jobs/],
  ['a job that failed', `update errand.outcome set status = 'dead' where job_id = 3`, /^1 jobs that did not/],
  [
    'a job told another slot',
    `update errand.outcome set result = '"x"' where job_id = 3`,
    /^1 jobs that were told/,
  ],
  [
    'a late slot',
    `update errand.slot set decided_at = slot + interval '9 s' where job_id = 3`,
    /lateness is 9 s/,
  ],
];

let database: TestDatabase;
let truth: pg.Pool;

before(async () => {
  database = await cloneDatabase();
  // One connection: what is planted is seen by the checker and taken back.
  truth = new pg.Pool({ connectionString: database.url, max: 1 });
  // The drop of the database may overtake the farewell of a connection.
  truth.on('error', () => {});
  await truth.query(right);
});

after(async () => {
  await truth.end();
  await database.drop();
});

async function judged(happened: Record<string, boolean> = {}) {
  return verdictOn(await balance(truth, [plan], from, to), {
    most_lateness_seconds: 5,
    happened,
    figures: {},
  });
}

test('books that are right pass, and prove nothing where nothing happened', async () => {
  const verdict = await judged({ 'a leader was killed': true });
  assert.equal(verdict.result, 'PASS', JSON.stringify(verdict));
  assert.equal(verdict.figures?.in_ledger, 10);
  assert.deepEqual(verdict.figures?.lateness_seconds, { p50: 2, p99: 2, max: 2 });
  assert.equal((await judged({ 'a leader was killed': false })).result, 'VACUOUS');
});

for (const [what, plant, reason] of faults) {
  test(`the books notice ${what}`, async () => {
    await truth.query('begin');
    try {
      await truth.query(plant);
      const verdict = await judged();
      assert.ok(verdict.result === 'FAIL', 'not noticed');
      assert.match(verdict.reason, reason);
    } finally {
      await truth.query('rollback');
    }
  });
}
