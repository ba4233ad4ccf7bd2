// Operations: redrives with canary, speed limit and cancel; reroutes under load; what is dangerous, with its phrase and its
// undo window. On one process with a clock that can be moved, so that windows take no time.
import assert from 'node:assert/strict';
import { after, before, beforeEach, describe, test } from 'node:test';
import { defineHandler } from '../../src/errand.ts';
import type { Pool } from '../../src/store/db.ts';
import { sql } from '../../src/store/sql.ts';
import { calling } from '../support/call.ts';
import { startErrand, type TestErrand } from '../support/errand.ts';
import { eachOnce, followed, isOver, standing, submitted } from '../support/operations.ts';
import { poolOn } from '../support/postgres.ts';
import { until } from '../support/until.ts';

let errand: TestErrand;
let db: Pool;
let isBroken = true;
let turn = 0;
let queue = '';
let other = '';
const call = calling(() => errand.url);
const { get, post } = call;

before(async () => {
  errand = await startErrand({
    env: { ERRAND_TEST_CLOCK: 'true', ERRAND_LEASE_SECONDS: '600' },
    handlers: [
      defineHandler({
        type: 'dies',
        run: () => {
          if (isBroken) throw new Error('broken');
        },
      }),
    ],
  });
  db = poolOn(errand.databaseUrl, 2);
});

after(async () => {
  await db.end();
  await errand.stop();
});

beforeEach(() => {
  queue = `q${turn++}`;
  other = `${queue}-other`;
});

const advance = (seconds: number) => post('/test/clock', { advance_seconds: seconds });

/** So many dead letters of the queue. */
async function dead(n: number): Promise<string[]> {
  isBroken = true;
  const ids = await submitted(call, n, { queue, type: 'dies', max_attempts: 1, tags: ['kept'] });
  await until(
    async () =>
      (await post('/v1/dead-letters/redrive', { filter: { queue }, dry_run: true })).json.jobs === n,
  );
  isBroken = false;
  return ids;
}

const repeats = sql<{ job_id: string; next_id: string; queue: string; tags: string[] }>`
select s.job_id, s.next_id, l.queue, j.tags from errand.successor s join errand.job j on j.id = s.next_id
join errand.lane l on l.id = j.lane where s.job_id = any($1::bigint[])`;

describe('a bulk redrive', () => {
  test('of a dry run says how many and which, and does nothing', async () => {
    const ids = await dead(12);
    const { status, json } = await post('/v1/dead-letters/redrive', { filter: { queue }, dry_run: true });
    assert.deepEqual([status, json.jobs, json.at_least, json.sample.length], [200, 12, false, 10]);
    assert.ok(json.sample.every((id: string) => ids.includes(id)));
    assert.deepEqual(await db.many(repeats, [ids]), []);
  });

  test('has to say which letters it means', async () => {
    assert.equal((await post('/v1/dead-letters/redrive?dry_run=true')).json.code, 'malformed-json');
    const { status, json } = await post('/v1/dead-letters/redrive', { queue });
    assert.deepEqual([status, json.errors[0].pointer], [422, '#/filter']);
  });

  test('of few letters among very many of others is told and sampled as if it were alone', async () => {
    const ids = await dead(12);
    await db.many(plantOthers);
    const { json: page } = await get(`/v1/dead-letters?queue=${queue}&limit=1`);
    await db.many(spoilCause, [ids, 'feedfeedfeedfeed']);
    assert.notEqual(page.items[0].fingerprint, 'feedfeedfeedfeed');
    for (const filter of [{ queue }, { fingerprint: 'feedfeedfeedfeed' }]) {
      const { json } = await post('/v1/dead-letters/redrive', { filter, dry_run: true });
      assert.deepEqual([json.jobs, json.at_least, json.sample.length], [12, false, 10]);
      assert.ok(json.sample.every((id: string) => ids.includes(id)));
    }
    const died_after = page.items[0].died_at;
    const { json: late } = await post('/v1/dead-letters/redrive', {
      filter: { queue, died_after },
      dry_run: true,
    });
    assert.ok(late.jobs > 0 && late.jobs <= 12, String(late.jobs));
    await db.many(forgetOthers);
  });

  test('waits after its canary, goes on when resumed, and repeats every letter once with its options', async () => {
    const ids = await dead(60);
    const body = { filter: { queue }, canary: 5, reason: 'fixed' };
    const key = { 'idempotency-key': `redrive-${queue}`, 'errand-actor': 'ada' };
    const begun = await post('/v1/dead-letters/redrive', body, key);
    assert.equal(begun.status, 202);
    const { id } = begun.json;
    assert.equal(begun.headers.get('location'), `/v1/operations/${id}`);
    assert.deepEqual([begun.json.expected.jobs, begun.json.actor], [60, 'ada']);
    const paused = await followed(call, id, ({ state }) => state === 'paused');
    assert.deepEqual([paused.matched, paused.counts], [5, { redriven: 5 }]);
    const again = await post('/v1/dead-letters/redrive', body, key);
    assert.deepEqual([again.status, again.json.id], [202, id]);
    assert.equal(again.headers.get('idempotency-replayed'), 'true');
    const reused = await post('/v1/dead-letters/redrive', { ...body, canary: 6 }, key);
    assert.equal(reused.json.code, 'idempotency-key-reused');
    await post(`/v1/operations/${id}/resume`);
    const done = await followed(call, id, isOver);
    assert.deepEqual([done.state, done.matched, done.counts], ['done', 60, { redriven: 60 }]);
    const made = await db.many(repeats, [ids]);
    assert.equal(new Set(made.map(({ next_id }) => next_id)).size, 60);
    assert.ok(made.every((one) => one.queue === queue && one.tags[0] === 'kept'));
    const items = (await get(`/v1/operations/${id}/items?limit=200`)).json.items;
    assert.deepEqual(
      items.map((item: Record<string, string>) => [item.job_id, item.outcome, item.next_id]).sort(),
      made.map(({ job_id, next_id }) => [job_id, 'redriven', next_id]).sort(),
    );
    const second = await post('/v1/dead-letters/redrive', { filter: { queue } });
    const nothing = await followed(call, second.json.id, isOver);
    assert.deepEqual([nothing.state, nothing.matched], ['done', 0]);
    assert.equal((await post(`/v1/operations/${id}/undo`)).json.code, 'operation-state-conflict');
  });

  test('that failed within its canary has it still to pass when it goes on', async () => {
    await dead(6);
    const { id } = (await post('/v1/dead-letters/redrive', { filter: { queue }, canary: 2 })).json;
    await followed(call, id, ({ state }) => state === 'paused');
    await db.many(failCanary, [id]);
    await post(`/v1/operations/${id}/resume`);
    const paused = await followed(call, id, isOver);
    assert.deepEqual([paused.state, paused.matched], ['paused', 4]);
    await post(`/v1/operations/${id}/resume`);
    assert.deepEqual((await followed(call, id, isOver)).counts, { redriven: 6 });
  });

  test('whose process is cut off in the midst of a step has not taken it: another does, and nothing is doubled', async () => {
    const ids = await dead(30);
    const { id } = await db.transaction(async (tx) => {
      // Its step has made the jobs and cannot write what became of the letters.
      await tx.many(lockItems);
      const begun = (await post('/v1/dead-letters/redrive', { filter: { queue } })).json;
      const [step] = await until(async () => {
        const found = await db.many(steppingBackends);
        return found.length === 1 ? found : null;
      });
      assert.deepEqual(await db.many(cutOff, [step?.pid]), [{ done: true }]);
      await until(async () => (await db.many(steppingBackends)).length === 0);
      return begun;
    });
    const cut = await followed(call, id, ({ error }) => error !== null);
    assert.deepEqual([cut.state, cut.matched, cut.counts], ['running', 0, {}]);
    assert.deepEqual(await db.many(repeats, [ids]), []);
    await advance(2);
    const done = await followed(call, id, isOver);
    assert.deepEqual(
      [done.state, done.matched, done.counts, done.error],
      ['done', 30, { redriven: 30 }, null],
    );
    assert.equal((await db.many(repeats, [ids])).length, 30);
  });

  test('into a queue that is drained is refused, and letters of such a queue stay where they are', async () => {
    const ids = await dead(5);
    const { json: told } = await post('/v1/dead-letters/redrive', { filter: { queue }, dry_run: true });
    await post(`/v1/queues/${queue}/drain`, {});
    for (const body of [{ filter: { queue } }, { filter: {}, queue }]) {
      const { status, json } = await post('/v1/dead-letters/redrive', body);
      assert.deepEqual([status, json.code], [409, 'queue-draining']);
    }
    const filter = { type: 'dies', died_after: told.oldest };
    const begun = (await post('/v1/dead-letters/redrive', { filter })).json;
    assert.deepEqual((await followed(call, begun.id, isOver)).counts, { refused: 5 });
    const { items } = (await get(`/v1/operations/${begun.id}/items?outcome=refused`)).json;
    assert.deepEqual(items.map((item: { job_id: string }) => item.job_id).sort(), [...ids].sort());
    await post(`/v1/queues/${queue}/resume`, {});
    const again = (await post('/v1/dead-letters/redrive', { filter })).json;
    assert.deepEqual((await followed(call, again.id, isOver)).counts, { redriven: 5 });
  });

  test('two at once over the same letters double nothing', async () => {
    const ids = await dead(200);
    const begun = await Promise.all(
      [1, 2].map(() => post('/v1/dead-letters/redrive', { filter: { queue } })),
    );
    const done = await Promise.all(begun.map(({ json }) => followed(call, json.id, isOver)));
    const redriven = done.reduce((sum, { counts }) => sum + (counts.redriven ?? 0), 0);
    assert.equal(redriven, 200);
    assert.equal((await db.many(repeats, [ids])).length, 200);
  });

  test('never goes faster than it may, and stops when it is cancelled', async () => {
    const ids = await dead(120);
    const begun = (await post('/v1/dead-letters/redrive', { filter: { queue }, rate_per_second: 50 })).json;
    await followed(call, begun.id, ({ matched }) => matched >= 25);
    const stopped = (await post(`/v1/operations/${begun.id}/cancel`)).json;
    assert.equal(stopped.state, 'cancelled');
    const items = (await get(`/v1/operations/${begun.id}/items?limit=200`)).json.items as { at: string }[];
    const began = Date.parse(begun.created_at);
    const times = items.map(({ at }) => (Date.parse(at) - began) / 1_000).sort((a, b) => a - b);
    times.forEach((time, i) => {
      // Shown times are cut to the millisecond.
      assert.ok(i + 1 <= 50 * (time + 0.002), `${i + 1} after ${time} s`);
    });
    assert.ok(items.length >= 25 && items.length < 120, String(items.length));
    assert.equal((await post(`/v1/operations/${begun.id}/cancel`)).json.state, 'cancelled');
    assert.equal((await db.many(repeats, [ids])).length, items.length);
    assert.equal((await post(`/v1/operations/${begun.id}/resume`)).json.code, 'operation-state-conflict');
  });
});

// Older than any that died here, and more than one look takes in.
const plantOthers = sql<never>`
with l as (insert into errand.lane (queue, route) values ('others', 'others') returning id), x as (
  select nextval('errand.job_id_seq') id, l.id lane from l, generate_series(1, 20100)
), j as (
  insert into errand.job (id, blk, lane, timeout_seconds, priority, max_attempts, payload) select id, 1, lane, 60, 5, 1, '{}' from x
)
insert into errand.dead_letter (job_id, died_at, lane, class, source, fingerprint)
select id, errand.now() - interval '1 day', lane, 'permanent', 'handler', '00000000000000aa' from x`;
const forgetOthers = sql<never>`delete from errand.dead_letter where fingerprint = '00000000000000aa'`;
const spoilCause = sql<never>`update errand.dead_letter set fingerprint = $2 where job_id = any($1::bigint[])`;

const failCanary = sql<never>`
update errand.operation set state = 'failed', error = 'x', pause_reason = null, params = params || '{"canary":4}'
where id = $1::bigint`;

const lockItems = sql<never>`lock table errand.operation_item in share mode`;
const steppingBackends = sql<{ pid: number }>`
select pid from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'
  and query like '%insert into errand.operation_item%'`;
const cutOff = sql<{ done: boolean }>`select pg_terminate_backend($1::int) done`;

describe('a reroute', () => {
  test('under claims, completions and cancels moves every job that waits, and loses and doubles none', async () => {
    const ids = await submitted(call, 1_500, (i) => ({
      queue,
      type: i % 3 === 0 ? 'a' : 'b',
      priority: i % 10,
      ...(i % 5 === 0 ? { delay_seconds: 3_600 } : {}),
      ...(i % 7 === 0 ? { callback: { url: 'https://ends.invalid/' } } : {}),
    }));
    let ended = 0;
    const work = async () => {
      for (let n = 0; n < 6; n++) {
        const { leases } = (await post('/v1/leases', { queues: [queue], limit: 20 })).json;
        for (const { id } of leases) {
          await post(`/v1/leases/${id}/complete`);
          ended++;
        }
      }
    };
    const cancel = async () => {
      for (const id of ids.slice(-40)) {
        const { json } = await post(`/v1/jobs/${id}/cancel`);
        if (json.state === 'cancelled') ended++;
      }
    };
    const rerouting = post(`/v1/queues/${queue}/reroute`, { to: other });
    const [begun] = await Promise.all([rerouting, work(), cancel()]);
    const done = await followed(call, begun.json.id, isOver);
    assert.equal(done.state, 'done');
    const stands = await standing(db, ids);
    eachOnce(stands);
    assert.equal(stands.length, 1_500);
    const open = stands.filter(({ state }) => state === 'queued' || state === 'scheduled');
    assert.equal(open.length, 1_500 - ended);
    assert.ok(open.length > 1_000, String(open.length));
    assert.ok(open.every((one) => one.queue === other && one.own_queue === other));
    const moved = (await post('/v1/leases', { queues: [other], types: ['a'], limit: 5 })).json.leases;
    assert.deepEqual(
      moved.map(({ job }: { job: { queue: string } }) => job.queue),
      Array(5).fill(other),
    );
    const told = await db.many(callbackQueues, [ids]);
    assert.deepEqual(told, [{ queue: other }]);
  });

  test('takes what its filter says, and says so where that is nothing', async () => {
    const ids = await submitted(call, 30, (i) => ({
      queue,
      type: i < 10 ? 'a' : 'b',
      priority: i % 10,
      tags: [`t${i % 2}`],
    }));
    const filtered = { to: other, filter: { types: ['b'], tags: ['t1'], priorities: [1, 3] } };
    const begun = (await post(`/v1/queues/${queue}/reroute`, filtered)).json;
    assert.equal(begun.expected.jobs, 4);
    const done = await followed(call, begun.id, isOver);
    assert.deepEqual([done.matched, done.counts], [4, { queued: 4 }]);
    eachOnce(await standing(db, ids));
    const none = await post(`/v1/queues/${queue}/reroute`, { to: other, filter: { tags: ['nobody'] } });
    assert.deepEqual((await followed(call, none.json.id, isOver)).matched, 0);
    const limited = await post(`/v1/queues/${queue}/reroute`, { to: other, limit: 7 });
    assert.equal((await followed(call, limited.json.id, isOver)).matched, 7);
    const refused = await post(`/v1/queues/${queue}/reroute`, { to: queue });
    assert.deepEqual([refused.status, refused.json.errors[0].pointer], [422, '#/to']);
    assert.equal(none.json.note, `no job of queue "${queue}" fits`);
    assert.deepEqual([begun.note, done.note], [null, null]);
  });
});

test('a queue that nobody has named has no jobs that could be moved or ended: 404, as where it is read', async () => {
  const nobody = `${queue}-nobody`;
  assert.equal((await get(`/v1/queues/${nobody}`)).status, 404);
  const reroute = await post(`/v1/queues/${nobody}/reroute`, { to: other });
  assert.deepEqual([reroute.status, reroute.json.code], [404, 'not-found']);
  for (const action of ['queue.purge', 'jobs.cancel_bulk', 'queue.delete_force', 'dead_letters.discard']) {
    const answer = await post('/v1/admin/actions', { action, target: nobody });
    assert.deepEqual([answer.status, answer.json.code], [404, 'not-found'], action);
    assert.match(answer.json.detail, new RegExp(`there is no queue "${nobody}"`));
  }
  assert.equal((await get(`/v1/queues/${nobody}`)).status, 404, 'asking has not made it');
  const { json: redrive } = await post('/v1/dead-letters/redrive', { filter: { queue: nobody } });
  assert.equal(redrive.note, `no dead letter of queue "${nobody}" fits`);
  await call('PUT', `/v1/queues/${nobody}`, {});
  const empty = await proposed({ target: nobody });
  assert.deepEqual([empty.impact.jobs, empty.note], [0, `no job of queue "${nobody}" fits`]);
});

test('nothing is rerouted or redriven into a queue that is drained; what a key has begun is answered all the same', async () => {
  const [letter] = await dead(2);
  await submitted(call, 1, { queue, type: 'a' });
  const key = { 'idempotency-key': `into-${queue}` };
  const begun = await post(`/v1/queues/${queue}/reroute`, { to: other }, key);
  await followed(call, begun.json.id, isOver);
  await post(`/v1/queues/${other}/drain`);
  const again = await post(`/v1/queues/${queue}/reroute`, { to: other }, key);
  assert.deepEqual([again.status, again.json.id], [202, begun.json.id]);
  const refused = [
    await post(`/v1/queues/${queue}/reroute`, { to: other }),
    await post('/v1/dead-letters/redrive', { filter: { queue }, queue: other }),
    await post(`/v1/dead-letters/${letter}/redrive`, { queue: other }),
  ];
  await post(`/v1/queues/${queue}/drain`);
  refused.push(await post('/v1/dead-letters/redrive', { filter: { queue } }));
  refused.push(await post(`/v1/dead-letters/${letter}/redrive`));
  assert.deepEqual(
    refused.map(({ status, json }) => `${status} ${json.code}`),
    Array(5).fill('409 queue-draining'),
  );
  await post(`/v1/queues/${queue}/resume`);
  const redriven = await post(`/v1/dead-letters/${letter}/redrive`);
  assert.equal(redriven.status, 202);
  await post(`/v1/queues/${queue}/drain`);
  assert.equal((await post(`/v1/dead-letters/${letter}/redrive`)).json.id, redriven.json.id);
});

const callbackQueues = sql<{ queue: string }>`
select distinct l.queue from errand.job j join errand.lane l on l.id = (j.options -> 'callback' ->> 'lane')::int
where j.id = any($1::bigint[]) and exists (
  select from errand.block b where j.id = any(b.ids[b.pos + 1:]))`;

/** Proposes a purge of the queue, or something else. */
const proposed = async (more: object = {}) =>
  (await post('/v1/admin/actions', { action: 'queue.purge', target: queue, reason: 'bad deploy', ...more }))
    .json;

const confirmed = (id: string, phrase: string) => post(`/v1/admin/actions/${id}/confirm`, { phrase });

describe('a purge', () => {
  test('is refused with a wrong phrase, when it has expired, was withdrawn, or would meet others', async () => {
    await submitted(call, 20, { queue, type: 'a' });
    const action = await proposed();
    assert.deepEqual(
      [action.state, action.impact.jobs, action.confirm_phrase],
      ['pending', 20, `purge ${queue} 20`],
    );
    const wrong = await confirmed(action.id, `purge ${queue} 21`);
    assert.deepEqual([wrong.status, wrong.json.code], [422, 'confirmation-mismatch']);
    await submitted(call, 3, { queue, type: 'a' });
    const drifted = await confirmed(action.id, action.confirm_phrase);
    assert.deepEqual(
      [drifted.status, drifted.json.code, drifted.json.impact.jobs, drifted.json.confirm_phrase],
      [409, 'impact-changed', 23, `purge ${queue} 23`],
    );
    assert.equal((await confirmed(action.id, action.confirm_phrase)).json.code, 'confirmation-mismatch');
    await advance(601);
    const late = await confirmed(action.id, `purge ${queue} 23`);
    assert.deepEqual([late.status, late.json.code], [410, 'action-expired']);
    assert.equal((await get(`/v1/admin/actions/${action.id}`)).json.state, 'expired');
    const second = await proposed();
    assert.equal((await call('DELETE', `/v1/admin/actions/${second.id}`)).status, 204);
    assert.equal((await confirmed(second.id, second.confirm_phrase)).json.code, 'action-expired');
    assert.equal((await get(`/v1/jobs?queue=${queue}&state=queued`)).json.items.length, 23);
  });

  test('sets aside what waits, and puts all back when it is undone, in the old order', async () => {
    const ids = await submitted(call, 300, (i) => ({
      queue,
      type: 'a',
      priority: i % 3,
      ...(i % 10 === 9 ? { delay_seconds: 3_600 } : {}),
    }));
    const running = (await post('/v1/leases', { queues: [queue], limit: 10 })).json.leases;
    const order = async () =>
      (await get(`/v1/jobs?queue=${queue}&state=queued&limit=200`)).json.items.map(
        ({ id }: { id: string }) => id,
      );
    const before = await order();
    const action = await proposed();
    const begun = await confirmed(action.id, action.confirm_phrase);
    assert.equal(begun.status, 202);
    const { id } = begun.json;
    const held = await followed(call, id, ({ phase }) => phase === 'hold');
    assert.deepEqual(held.counts, { held: 290 });
    assert.deepEqual((await post('/v1/leases', { queues: [queue], limit: 10 })).json.leases, []);
    const kept = await call('DELETE', `/v1/queues/${queue}`, undefined, { 'if-match': '*' });
    assert.match(kept.json.detail, new RegExp(`operation ${id} has set some aside`));
    assert.equal((await get(`/v1/jobs/${ids[299]}`)).json.state, 'scheduled');
    assert.equal((await confirmed(action.id, action.confirm_phrase)).json.id, id);
    eachOnce(await standing(db, ids));
    await post(`/v1/operations/${id}/undo`);
    const undone = await followed(call, id, isOver);
    assert.deepEqual([undone.state, undone.counts], ['undone', { held: 290, put_back: 290 }]);
    assert.deepEqual(await order(), before);
    const stands = await standing(db, ids);
    eachOnce(stands);
    assert.ok(stands.every(({ route }) => route === 'a'));
    assert.equal((await post('/v1/leases', { queues: [queue], limit: 10 })).json.leases.length, 10);
    assert.equal((await post(`/v1/leases/${running[0].id}/complete`)).status, 200);
    const again = (await post(`/v1/operations/${id}/undo`)).json;
    assert.deepEqual(again, (await get(`/v1/operations/${id}`)).json);
    assert.equal((await post(`/v1/operations/${id}/cancel`)).json.code, 'operation-state-conflict');
  });

  test('ends what it set aside when its window is over, and tells whoever waits', async () => {
    const ids = await submitted(call, 40, (i) => ({
      queue,
      type: 'a',
      // Else the attempt that runs has timed out where a busy machine takes a second more than the clock is moved by.
      timeout_seconds: 3_600,
      ...(i % 4 === 0 ? { delay_seconds: 100_000 } : {}),
      ...(i === 7 ? { callback: { url: 'https://ends.invalid/' } } : {}),
    }));
    const [running] = (await post('/v1/leases', { queues: [queue], limit: 1 })).json.leases;
    const action = await proposed({ params: { undo_seconds: 60 } });
    const { id } = (await confirmed(action.id, action.confirm_phrase)).json;
    await followed(call, id, ({ phase }) => phase === 'hold');
    const open = ids.filter((one) => one !== running.job.id);
    const waiting = get(`/v1/jobs/${open[3]}/status`, { prefer: 'wait=10' });
    await advance(61);
    const done = await followed(call, id, isOver);
    assert.deepEqual([done.state, done.counts], ['done', { held: 39, cancelled: 39 }]);
    assert.equal((await waiting).json.state, 'cancelled');
    const { json: one } = await get(`/v1/jobs/${open[5]}`);
    assert.deepEqual([one.state, one.queue], ['cancelled', queue]);
    assert.equal((await get(`/v1/jobs/${running.job.id}`)).json.state, 'running');
    assert.equal((await post(`/v1/operations/${id}/undo`)).json.code, 'operation-state-conflict');
    assert.equal((await get(`/v1/jobs?queue=${queue}&type=errand.callback`)).json.items.length, 1);
    const held = (await db.many(holdLanes, [id])).map((lane) => lane.id);
    await advance(20);
    await until(async () => (await db.many(holdLanes, [id])).length === 0);
    eachOnce(await standing(db, ids));
    // Counts are folded long after the lanes are gone.
    await db.many(countIn, [held]);
    await advance(10);
    await until(async () => (await db.many(countedIn, [held])).length === 0);
  });

  test('a job that is set aside can still be cancelled, changed, and taken elsewhere by its owner', async () => {
    const ids = await submitted(call, 4, { queue, type: 'a' });
    const [one, two, three, four] = ids;
    const action = await proposed({ params: { undo_seconds: 60 } });
    const { id } = (await confirmed(action.id, action.confirm_phrase)).json;
    await followed(call, id, ({ phase }) => phase === 'hold');
    const cancelled = (await post(`/v1/jobs/${one}/cancel`)).json;
    assert.deepEqual([cancelled.state, cancelled.queue, cancelled.type], ['cancelled', queue, 'a']);
    const changed = (await call('PATCH', `/v1/jobs/${two}`, { priority: 1 })).json;
    assert.deepEqual([changed.priority, changed.queue, changed.type], [1, queue, 'a']);
    const away = (await call('PATCH', `/v1/jobs/${three}`, { queue: other })).json;
    assert.equal(away.queue, other);
    assert.deepEqual((await post('/v1/leases', { queues: [queue] })).json.leases, []);
    await advance(61);
    const done = await followed(call, id, isOver);
    assert.deepEqual(done.counts, { held: 4, cancelled: 2 });
    const states = await Promise.all(
      [two, three, four].map(async (job) => (await get(`/v1/jobs/${job}`)).json.state),
    );
    assert.deepEqual(states, ['cancelled', 'queued', 'cancelled']);
    eachOnce(await standing(db, ids));
  });

  test('that is cancelled puts back what it has not ended', async () => {
    const ids = await submitted(call, 50, { queue, type: 'a' });
    const action = await proposed();
    const { id } = (await confirmed(action.id, action.confirm_phrase)).json;
    await followed(call, id, ({ phase }) => phase === 'hold');
    await post(`/v1/operations/${id}/cancel`);
    const over = await followed(call, id, isOver);
    assert.deepEqual([over.state, over.counts], ['cancelled', { held: 50, put_back: 50 }]);
    const stands = await standing(db, ids);
    assert.ok(stands.every(({ route, state }) => route === 'a' && state === 'queued'));
  });
});

test('jobs that wait for the holder of their key are met like all others', async () => {
  const unique = (on_conflict: string) => ({ key: `k-${queue}`, while: ['queued', 'running'], on_conflict });
  const job = { queue, type: 'a' };
  await post('/v1/jobs', { ...job, unique: unique('return') });
  const { leases } = (await post('/v1/leases', { queues: [queue] })).json;
  const { json: waits } = await post('/v1/jobs', { ...job, unique: unique('rerun') });
  assert.equal(waits.state, 'blocked');
  const { id } = (await post(`/v1/queues/${queue}/reroute`, { to: other })).json;
  assert.deepEqual((await followed(call, id, isOver)).counts, { blocked: 1 });
  assert.equal((await get(`/v1/jobs/${waits.id}`)).json.queue, other);
  const action = await proposed({ target: other, params: { undo_seconds: 0 } });
  assert.equal(action.impact.jobs, 1);
  const purge = (await confirmed(action.id, action.confirm_phrase)).json;
  assert.deepEqual((await followed(call, purge.id, isOver)).counts, { held: 1, cancelled: 1 });
  assert.deepEqual((await get(`/v1/jobs/${waits.id}`)).json.state, 'cancelled');
  assert.equal((await post(`/v1/leases/${leases[0].id}/complete`)).status, 200);
});

test('a job that is set aside to be cancelled stands for nobody: whoever comes with its key takes its place', async () => {
  const job = { queue, type: 'a', unique: { key: `doomed-${queue}` } };
  const doomed = (await post('/v1/jobs', job)).json.id;
  const [other] = await submitted(call, 1, { queue, type: 'a' });
  const action = await proposed();
  const { id } = (await confirmed(action.id, action.confirm_phrase)).json;
  await followed(call, id, ({ phase }) => phase === 'hold');
  const fresh = await post('/v1/jobs', job);
  assert.deepEqual([fresh.status, fresh.headers.get('errand-deduplicated')], [202, null]);
  assert.notEqual(fresh.json.id, doomed);
  assert.equal((await get(`/v1/jobs/${doomed}`)).json.error.detail, `superseded by job ${fresh.json.id}`);
  await post(`/v1/operations/${id}/undo`);
  assert.deepEqual((await followed(call, id, isOver)).counts, { held: 2, put_back: 1 });
  for (const there of [fresh.json.id, other])
    assert.equal((await get(`/v1/jobs/${there}`)).json.state, 'queued');
});

const countIn = sql<never>`insert into errand.depth (lane) select unnest($1::int[]) on conflict do nothing`;
const countedIn = sql<{ lane: number }>`select lane from errand.depth where lane = any($1::int[])`;
const holdLanes = sql<{ id: number }>`select id from errand.lane where route like ':hold.' || $1 || '.%'`;

test('a bulk cancel ends what fits, and asks what runs to stop', async () => {
  const ids = await submitted(call, 30, (i) => ({ queue, type: i % 2 === 0 ? 'a' : 'b' }));
  const { leases } = (await post('/v1/leases', { queues: [queue], types: ['a'], limit: 5 })).json;
  const params = { filter: { types: ['a'] }, states: ['queued', 'running'], undo_seconds: 0 };
  const action = await proposed({ action: 'jobs.cancel_bulk', params });
  assert.equal(action.confirm_phrase, `cancel ${queue} 10 and 5 running`);
  assert.deepEqual([action.impact.jobs, action.impact.running], [10, 5]);
  const { id } = (await confirmed(action.id, action.confirm_phrase)).json;
  const done = await followed(call, id, isOver);
  assert.deepEqual([done.state, done.counts], ['done', { held: 10, cancelled: 10, asked_to_stop: 5 }]);
  const beat = (await post(`/v1/leases/${leases[0].id}/heartbeat`)).json;
  assert.equal(beat.cancel_requested, true);
  const stands = await standing(db, ids);
  eachOnce(stands);
  assert.equal(stands.filter(({ state }) => state === 'queued').length, 15);
});

test('a limit holds for what is shown, and for jobs that run as for those that wait', async () => {
  await submitted(call, 12, { queue, type: 'a' });
  await post('/v1/leases', { queues: [queue], limit: 6 });
  const cancel = async (states: string[], limit: number) => {
    const action = await proposed({ action: 'jobs.cancel_bulk', params: { states, limit, undo_seconds: 0 } });
    const { id } = (await confirmed(action.id, action.confirm_phrase)).json;
    return [action.confirm_phrase, (await followed(call, id, isOver)).counts];
  };
  assert.deepEqual(await cancel(['queued'], 2), [`cancel ${queue} 2`, { held: 2, cancelled: 2 }]);
  const both = await cancel(['queued', 'running'], 5);
  assert.deepEqual(both, [`cancel ${queue} 4 and 1 running`, { held: 4, cancelled: 4, asked_to_stop: 1 }]);
  assert.deepEqual(await cancel(['running'], 3), [`cancel ${queue} 0 and 3 running`, { asked_to_stop: 3 }]);
  assert.deepEqual(await cancel(['running'], 9), [`cancel ${queue} 0 and 2 running`, { asked_to_stop: 2 }]);
});

test('a bulk discard takes letters out of the list, and puts them back when it is undone', async () => {
  await dead(20);
  const count = async () =>
    (await post('/v1/dead-letters/redrive', { filter: { queue }, dry_run: true })).json.jobs;
  const action = await proposed({ action: 'dead_letters.discard', params: { limit: 15 } });
  assert.equal(action.confirm_phrase, `discard ${queue} 15`);
  const { id } = (await confirmed(action.id, action.confirm_phrase)).json;
  await followed(call, id, ({ phase }) => phase === 'hold');
  assert.equal(await count(), 5);
  await post(`/v1/operations/${id}/undo`);
  assert.equal((await followed(call, id, isOver)).state, 'undone');
  assert.equal(await count(), 20);
  const { items } = (await get(`/v1/operations/${id}/items?outcome=put_back`)).json;
  assert.equal(items.length, 15);
});

test('what means nothing for an action is refused with its place', async () => {
  const refusals: [object, string][] = [
    [{ target: '*' }, '#/target'],
    [{ params: { filter: { fingerprint: '0'.repeat(16) } } }, '#/params/filter/fingerprint'],
    [{ params: { states: ['running'] } }, '#/params/states'],
    [{ action: 'dead_letters.discard', params: { states: ['queued'] } }, '#/params/states'],
    [{ action: 'queue.delete_force', params: { limit: 1 } }, '#/params/limit'],
    [{ params: { undo_seconds: 86_401 } }, '#/params/undo_seconds'],
  ];
  for (const [body, pointer] of refusals) {
    const { status, json } = await post('/v1/admin/actions', {
      action: 'queue.purge',
      target: queue,
      ...body,
    });
    assert.deepEqual([status, json.errors?.[0]?.pointer], [422, pointer]);
  }
});

test('an operation that fails says so and waits for somebody, and no other waits for it', async () => {
  await submitted(call, 5, { queue, type: 'a' });
  const begun = (await post(`/v1/queues/${queue}/reroute`, { to: other, limit: 1 })).json;
  await followed(call, begun.id, isOver);
  await db.many(spoil, [begun.id]);
  const spoilt = await followed(call, begun.id, ({ error }) => error !== null);
  assert.match(spoilt.error ?? '', /the database refused it \(22P02\)/);
  const next = (await post(`/v1/queues/${queue}/reroute`, { to: other, limit: 1 })).json;
  assert.equal((await followed(call, next.id, isOver)).state, 'done');
  for (let n = 0; n < 5; n++) await advance(20);
  const failed = await followed(call, begun.id, isOver);
  assert.equal(failed.state, 'failed');
  await db.many(mend, [begun.id]);
  await post(`/v1/operations/${begun.id}/resume`);
  const done = await followed(call, begun.id, isOver);
  assert.deepEqual([done.state, done.error], ['done', null]);
});

const spoil = sql<never>`
update errand.operation set state = 'running', finished_at = null, next_at = errand.now(),
  params = params || '{"limit":null}', plan = plan || '{"ceiling":"no id"}' where id = $1`;
const mend = sql<never>`
update errand.operation set plan = plan || '{"ceiling":"9"}' where id = $1`;

test('lists of operations and actions are walked to their end', async () => {
  await submitted(call, 1, { queue, type: 'a' });
  for (let n = 0; n < 3; n++) {
    const { id } = (await post(`/v1/queues/${queue}/reroute`, { to: other, filter: { tags: ['x'] } })).json;
    await followed(call, id, isOver);
    await proposed();
  }
  for (const path of ['/v1/operations?kind=queue.reroute&state=done&limit=2', '/v1/admin/actions?limit=2']) {
    const seen: string[] = [];
    let next: string | undefined = path;
    while (next !== undefined) {
      const { headers, json } = await get(next);
      for (const { id } of json.items) seen.push(id);
      next = headers.get('link')?.match(/<(.*)>/)?.[1];
    }
    assert.ok(seen.length >= 3 && new Set(seen).size === seen.length, `${path} ${seen}`);
  }
  for (const path of ['/v1/operations/999999', '/v1/admin/actions/act_999999', '/v1/operations/999999/items'])
    assert.equal((await get(path)).status, 404);
});

test('what is over is forgotten after thirty days, with its items and its action; what waits for somebody is kept', async () => {
  await dead(10);
  const begin = async (more: object) =>
    (await post('/v1/dead-letters/redrive', { filter: { queue }, ...more })).json.id;
  const waits = await begin({ canary: 4 });
  await followed(call, waits, ({ state }) => state === 'paused');
  const over = await begin({});
  await followed(call, over, isOver);
  const action = await proposed({ action: 'dead_letters.discard', params: { undo_seconds: 0 } });
  const discard = (await confirmed(action.id, action.confirm_phrase)).json.id;
  await followed(call, discard, isOver);
  const unused = await proposed();
  await advance(29 * 86_400);
  const paths = [
    `operations/${over}`,
    `operations/${discard}`,
    `admin/actions/${action.id}`,
    `admin/actions/${unused.id}`,
  ];
  const found = () => Promise.all(paths.map(async (path) => (await get(`/v1/${path}`)).status));
  assert.deepEqual(await found(), [200, 200, 200, 200]);
  await advance(2 * 86_400);
  assert.deepEqual(await found(), [404, 404, 404, 404]);
  assert.deepEqual(await db.many(itemsOf, [[over, waits]]), [{ operation_id: waits, items: 4 }]);
  assert.equal((await post(`/v1/operations/${waits}/resume`)).json.state, 'running');
});

const itemsOf = sql<{ operation_id: string; items: number }>`
select operation_id, count(*)::int items from errand.operation_item where operation_id = any($1::bigint[]) group by 1`;
