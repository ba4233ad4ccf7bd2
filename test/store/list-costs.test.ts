// What a page costs among 200,000 jobs: buffers, counted by EXPLAIN on the plans the program runs with, made while the tables
// were empty, and again with fresh statistics. A list that reads what it does not show fails here.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import pg from 'pg';
import { naming } from '../../src/actions/inspect.ts';
import { type List, listing } from '../../src/actions/list.ts';
import type { Filter } from '../../src/domain/listing.ts';
import type { Pool } from '../../src/store/db.ts';
import { Lanes, Workers } from '../../src/store/lanes.ts';
import { fixedPlans, startupOptions } from '../../src/store/session.ts';
import type { Statement } from '../../src/store/sql.ts';
import { cloneDatabase, poolOn, type TestDatabase } from '../support/postgres.ts';

let database: TestDatabase;
let db: Pool;
let client: pg.Client;
let list: List;
let buffers = 0;

before(async () => {
  database = await cloneDatabase();
  client = new pg.Client({ connectionString: database.url, options: startupOptions(fixedPlans) });
  client.on('error', () => {});
  await client.connect();
  db = poolOn(database.url, 1);
  list = listing({
    db: counted(db),
    named: naming(new Lanes(db), new Workers(db)),
    secret: Buffer.alloc(32, 1),
    overlap_seconds: 20,
  });
});

after(async () => {
  await client.end().catch(() => {});
  await db.end();
  await database.drop();
});

/** A pool that runs everything a second time under EXPLAIN, as a kept plan on a connection of its own. */
function counted(pool: Pool): Pool {
  const prepared = new Map<string, string>();
  const count = async ({ text }: Statement<unknown>, params: readonly unknown[] = []) => {
    const name = prepared.get(text) ?? `s${prepared.size}`;
    if (!prepared.has(text)) await client.query(`prepare ${name} as ${text}`);
    prepared.set(text, name);
    const values = params.map((value) =>
      value == null ? 'null' : client.escapeLiteral(Array.isArray(value) ? `{${value}}` : String(value)),
    );
    const { rows } = await client.query(
      `explain (analyze, buffers, format json) execute ${name}${values.length > 0 ? `(${values})` : ''}`,
    );
    const plan = rows[0]['QUERY PLAN'][0].Plan;
    buffers += plan['Shared Hit Blocks'] + plan['Shared Read Blocks'];
  };
  return {
    ...pool,
    many: async (statement, params) => {
      await count(statement, params);
      return pool.many(statement, params);
    },
    one: async (statement, params) => {
      await count(statement, params);
      return pool.one(statement, params);
    },
  };
}

async function page(filter: Filter, cursor?: string) {
  buffers = 0;
  return { ...(await list.page(filter, 50, cursor)), buffers };
}

/** Ids 1 to 200,000: 140,000 ended, then 30,000 ready, 20,000 waiting and 10,000 running, in 20 busy queues and a rare one. */
const fill = `
insert into errand.lane (queue, route) select 'q' || n, 't' from generate_series(1, 20) n;
insert into errand.lane (queue, route) values ('rare', 't'), ('empty', 't');
insert into errand.lane (queue, route) select 'pushy', ':push.p' || n from generate_series(0, 6) n;
insert into errand.worker (name) values ('w');
insert into errand.job (id, blk, created_at, lane, timeout_seconds, priority, max_attempts, payload, options, tags)
select n, 0, timestamptz '2026-01-01' + n * interval '1 s',
  case when n % 20000 = 77 then 21 when n % 10 = 3 then 23 + n % 7 else 1 + n % 20 end, 60, 5, 8, '{}',
  case when n % 10 = 3 then jsonb_build_object('type', 'p' || n % 7) end,
  case when n % 40000 = 5 then array['scarce', 'common'] when n % 4 = 0 then array['common'] end
from generate_series(1, 200000) n;
insert into errand.tag select 0, u, id from errand.job, unnest(tags) u;
insert into errand.outcome (job_id, started_at, epoch, lane, worker, status, attempt, prio, class, source)
select id, created_at, 1, lane, 1, case when id % 1000 = 7 then 'dead' when id % 50000 = 9 then 'expired'
  when id % 20 = 11 then 'cancelled' else 'succeeded' end::errand.outcome_status, 1, 5,
  case when id % 20000 = 7 then 'poison' when id % 1000 = 7 then 'permanent' end::errand.failure_class,
  case when id % 1000 = 7 then 'handler' end::errand.failure_source from errand.job where id <= 140000;
insert into errand.block (seq, ord, lane, prio, timeout_seconds, ids)
select min(id), min(id), lane, 3 + lane % 3, 60, array_agg(id order by id) from errand.job
where id > 140000 and id <= 170000 group by lane, id / 1000;
insert into errand.place select u, seq from errand.block, unnest(ids) u;
insert into errand.later (job_id, run_at, lane, timeout_seconds, epoch, prio, attempt)
select id, timestamptz '2027-01-01' + (id % 1000) * interval '1 min', lane, 60, 1, 5, case when id % 4000 = 1 then 2 else 1 end
from errand.job where id > 170000 and id <= 190000;
insert into errand.outcome (job_id, started_at, epoch, lane, worker, status, attempt, prio, class, source, next_at)
select job_id, now(), 1, lane, 1, 'retry', 1, 5, 'retryable', 'worker', run_at from errand.later where attempt = 2;
insert into errand.lease (blk, until, deadline, owner, lane, epoch, prio, attempt, ids)
select 1000000 + min(id), now() + interval '1 d', now() + interval '1 d', 1, lane, 1, 5, 1, array_agg(id order by id)
from errand.job where id > 190000 group by lane, id / 200;
insert into errand.place select u, blk from errand.lease, unnest(ids) u`;

/** What a page of 50 may cost: 20 for each job that is shown, and little beside it. */
const shown = 1_600;
/** Where jobs are passed over: 1,000 rows that one walk looks at, besides. Up to three walks go for one page. */
const passed_over = 8_000;

const costs: [filter: Filter, items: number, most: number][] = [
  [{}, 50, shown],
  [{ queue: 'q1' }, 50, shown],
  [{ queue: 'rare' }, 10, 300],
  [{ queue: 'empty' }, 0, 50],
  [{ queue: 'nobody' }, 0, 10],
  [{ type: 't' }, 50, passed_over],
  [{ type: 'p3' }, 50, passed_over],
  [{ state: 'succeeded' }, 50, shown],
  [{ state: 'succeeded', queue: 'q1' }, 50, passed_over],
  [{ state: 'succeeded', queue: 'rare' }, 7, 300],
  [{ state: 'dead' }, 50, shown],
  [{ state: 'dead', queue: 'q8' }, 50, shown],
  [{ state: 'dead', queue: 'rare' }, 0, 50],
  [{ state: 'dead', error_class: 'poison' }, 7, 500],
  [{ state: 'expired' }, 3, 150],
  [{ state: 'cancelled', type: 't' }, 50, passed_over],
  [{ error_class: 'poison' }, 0, passed_over],
  [{ tag: 'common' }, 50, shown],
  [{ tag: 'scarce' }, 5, 200],
  [{ tag: 'nobody' }, 0, 10],
  [{ tag: 'common', queue: 'rare' }, 0, passed_over],
  [{ tag: 'common', state: 'dead' }, 0, passed_over],
  [{ tag: 'scarce', state: 'queued' }, 1, 200],
  [{ state: 'queued' }, 50, shown],
  [{ state: 'queued', queue: 'q1' }, 50, shown],
  [{ state: 'queued', queue: 'rare' }, 2, 150],
  [{ state: 'queued', queue: 'empty' }, 0, 50],
  [{ state: 'running' }, 50, shown],
  [{ state: 'running', queue: 'q1' }, 50, shown],
  [{ state: 'running', queue: 'rare' }, 0, 300],
  [{ state: 'scheduled' }, 50, 2_500],
  [{ state: 'scheduled', queue: 'rare' }, 1, 100],
  [{ state: 'retrying' }, 5, 300],
  [{ state: 'retrying', queue: 'q1' }, 0, 50],
  [{ created_after: '2026-01-01T01:00:00Z', created_before: '2026-01-01T01:00:10Z' }, 10, 1_000],
  [{ state: 'dead', created_before: '2026-01-01T01:00:10Z' }, 4, 1_000],
];

test('an empty database answers every list from a handful of buffers', async () => {
  // From here on every plan is one that was made on empty tables, and autovacuum may not mend it.
  await client.query(`do $$ declare t regclass; begin
    for t in select oid from pg_class where relnamespace = 'errand'::regnamespace and relkind = 'r' loop
      execute format('alter table %s set (autovacuum_enabled = false)', t);
    end loop; end $$`);
  await client.query('vacuum analyze');
  for (const [filter] of costs) {
    const { items, next_cursor, buffers } = await page(filter);
    assert.deepEqual([items.length, next_cursor], [0, null], JSON.stringify(filter));
    assert.ok(buffers <= 60, `${JSON.stringify(filter)}: ${buffers} buffers`);
  }
});

for (const statistics of ['made while everything was empty', 'fresh'] as const) {
  test(`among 200,000 jobs no page reads more than it must, with statistics ${statistics}`, async () => {
    if (statistics === 'fresh') await client.query('analyze');
    else await client.query(fill);
    for (const [filter, most_items, most] of costs) {
      const first = await page(filter);
      assert.equal(first.items.length, most_items, JSON.stringify(filter));
      assert.ok(first.buffers <= most, `${JSON.stringify(filter)}: ${first.buffers} buffers`);
      if (first.next_cursor === null) continue;
      const second = await page(filter, first.next_cursor);
      assert.ok(second.buffers <= most, `${JSON.stringify(filter)}, second page: ${second.buffers} buffers`);
    }
  });
}

test('what is rare is found at the end of bounded pages, however many are empty', async () => {
  for (const [filter, expected] of [
    [{ error_class: 'poison' }, 7],
    [{ state: 'succeeded', queue: 'rare', tag: 'common' }, 0],
    [{ tag: 'common', state: 'expired' }, 0],
    [{ tag: 'common', type: 'p0', state: 'succeeded' }, 0],
    [{ state: 'succeeded', type: 'p0' }, 2_000],
    [{ state: 'running', queue: 'q20' }, 500],
  ] as [Filter, number][]) {
    const found = new Set<string>();
    let cursor: string | null | undefined;
    for (let pages = 0; cursor !== null; pages++) {
      assert.ok(pages < 250, `${JSON.stringify(filter)}: no end`);
      const { items, next_cursor, buffers } = await page(filter, cursor);
      assert.ok(buffers <= 3 * passed_over, `${JSON.stringify(filter)}: ${buffers} buffers`);
      for (const item of items) assert.equal(found.size, found.add(item.id).size - 1);
      cursor = next_cursor;
    }
    assert.equal(found.size, expected, JSON.stringify(filter));
  }
});
