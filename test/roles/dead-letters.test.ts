// What died is found by what it died of, and decided about once: over HTTP, on a database.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { Pool } from '../../src/store/db.ts';
import { sql } from '../../src/store/sql.ts';
import { calling } from '../support/call.ts';
import { startErrand, type TestErrand } from '../support/errand.ts';
import { poolOn } from '../support/postgres.ts';
import { until } from '../support/until.ts';

let errand: TestErrand;
let db: Pool;
const call = calling(() => errand.url);
const { get, post } = call;

before(async () => {
  errand = await startErrand();
  db = poolOn(errand.databaseUrl, 2);
});

after(async () => {
  await db.end();
  await errand.stop();
});

interface Death {
  queue: string;
  type?: string;
  message?: string;
  class?: string;
  place?: string;
  options?: object;
}

/** Submits a job, leases it, and fails it for good; answers its id. */
async function died({ queue, type = 'work', message, class: kind = 'permanent', place, options }: Death) {
  const { json: job } = await post('/v1/jobs', { queue, type, payload: { n: 1 }, ...options });
  const { json } = await post('/v1/leases', { worker: 'w1', queues: [queue], types: [type] });
  const failed = await post(`/v1/leases/${json.leases[0].id}/fail`, { class: kind, message, place });
  assert.equal(failed.json.state, 'dead');
  return job.id as string;
}

const idsOf = (page: { json: { items: { job_id: string }[] } }) => page.json.items.map((one) => one.job_id);

test('letters are listed by every filter, the latest death first', async () => {
  const first = await died({ queue: 'f', message: 'card 1 refused', options: { tags: ['eu'] } });
  const between = new Date().toISOString();
  const second = await died({ queue: 'f', type: 'mail', message: 'card 2 refused' });
  const third = await died({ queue: 'f', message: 'card 3 refused', class: 'poison' });
  const filters: [string, string[]][] = [
    ['', [third, second, first]],
    ['&type=mail', [second]],
    ['&error_class=poison', [third]],
    ['&source=worker', [third, second, first]],
    ['&source=target', []],
    ['&http_status=500', []],
    ['&tag=eu', [first]],
    [`&died_after=${between}`, [third, second]],
    [`&died_before=${between}`, [first]],
    ['&died_after=2990-01-01T00:00:00Z', []],
  ];
  for (const [filter, ids] of filters)
    assert.deepEqual(idsOf(await get(`/v1/dead-letters?queue=f${filter}`)), ids, filter);
  assert.deepEqual(idsOf(await get('/v1/dead-letters?queue=nobody')), []);
  const { json } = await get('/v1/dead-letters?queue=f&limit=1');
  const { died_at, created_at, ...letter } = json.items[0];
  assert.ok(Date.parse(died_at) >= Date.parse(created_at));
  assert.match(letter.fingerprint, /^[0-9a-f]{16}$/);
  assert.deepEqual(letter, {
    ...{ job_id: third, queue: 'f', type: 'work', class: 'poison', source: 'worker', http_status: null },
    ...{
      fingerprint: letter.fingerprint,
      detail: 'card 3 refused',
      attempt: 1,
      max_attempts: 8,
      epoch: 1,
      tags: [],
    },
  });
  const same = await get(`/v1/dead-letters?fingerprint=${letter.fingerprint}`);
  assert.deepEqual(idsOf(same), [third]);
});

test('a walk meets every letter once, however short its pages are', async () => {
  const ids: string[] = [];
  for (let n = 0; n < 7; n++) ids.unshift(await died({ queue: 'w', message: `n ${n}` }));
  for (const query of ['queue=w', 'queue=w&error_class=permanent']) {
    const met: string[] = [];
    let path: string | undefined = `/v1/dead-letters?${query}&limit=2`;
    while (path !== undefined) {
      const page = await get(path);
      met.push(...idsOf(page));
      path = /<([^>]+)>/.exec(page.headers.get('link') ?? '')?.[1];
    }
    assert.deepEqual(met, ids);
  }
  const { json } = await get('/v1/dead-letters?queue=w&limit=2');
  const stranger = await get(`/v1/dead-letters?queue=f&cursor=${json.next_cursor}`);
  assert.deepEqual([stranger.status, stranger.json.code], [400, 'cursor-invalid']);
});

test('failures of one cause are one group, with count, first and last death and a sample', async () => {
  for (let n = 0; n < 4; n++) await died({ queue: 'g', message: `card ${n} of 'user ${n}' refused` });
  const elsewhere = await died({ queue: 'g2', message: "card 99 of 'nobody' refused" });
  await died({ queue: 'g', message: 'card 5 refused', place: 'charge card.ts' });
  const { json } = await get('/v1/dead-letters?group_by=fingerprint&source=worker&error_class=permanent');
  const [group] = json.groups.filter((one: { queues: string[] }) => one.queues.includes('g2'));
  assert.deepEqual([group.count, group.queues, group.type], [5, ['g', 'g2'], 'work']);
  assert.deepEqual(group.sample, { job_id: elsewhere, detail: "card 99 of 'nobody' refused" });
  assert.ok(Date.parse(group.first_died_at) < Date.parse(group.last_died_at));
  assert.equal(json.exact, true);
  const cut = await get('/v1/dead-letters?group_by=fingerprint&queue=g&limit=1');
  assert.deepEqual([cut.json.groups.length, cut.json.groups[0].count, cut.json.exact], [1, 4, false]);
  const none = await get('/v1/dead-letters?group_by=fingerprint&queue=g&http_status=500');
  assert.deepEqual(none.json, { groups: [], looked: 5, exact: true });
});

test('a letter shows its job, all attempts and what was decided', async () => {
  const id = await died({ queue: 'r', message: 'no' });
  const { json, status } = await get(`/v1/dead-letters/${id}?include=payload`);
  assert.equal(status, 200);
  assert.deepEqual([json.listed, json.discarded, json.redriven_as], [true, false, null]);
  assert.deepEqual([json.job.id, json.job.payload], [id, { n: 1 }]);
  assert.equal(json.attempts.length, 1);
  const [attempt] = json.attempts;
  assert.deepEqual(
    [attempt.outcome, attempt.class, attempt.source, attempt.detail, attempt.worker],
    ['dead', 'permanent', 'worker', 'no', 'w1'],
  );
  assert.match(attempt.fingerprint, /^[0-9a-f]{16}$/);
  const { json: open } = await post('/v1/jobs', { queue: 'r2', type: 'work' });
  const notDead = await get(`/v1/dead-letters/${open.id}`);
  assert.deepEqual([notDead.status, notDead.json.code], [404, 'not-found']);
});

test('a redrive makes one job with every option of the dead one, however often it is asked for', async () => {
  const options = {
    ...{ priority: 3, max_attempts: 4, timeout_seconds: 9, tags: ['a', 'b'] },
    backoff: { strategy: 'fixed', base_seconds: 1, jitter: 'none' },
    callback: { url: 'http://127.0.0.1:9999/', events: ['succeeded'] },
  };
  const id = await died({ queue: 'd', message: 'no', options });
  const asked = { reason: 'the card service is back' };
  const made = await post(`/v1/dead-letters/${id}/redrive`, asked, { 'errand-actor': 'ada' });
  assert.equal(made.status, 202);
  assert.equal(made.headers.get('location'), `/v1/jobs/${made.json.id}/status`);
  assert.equal(made.json.retry_of, id);
  const was = (await get(`/v1/jobs/${id}`)).json;
  for (const member of ['queue', 'type', 'priority', 'max_attempts', 'timeout_seconds', 'tags', 'callback'])
    assert.deepEqual(made.json[member], was[member], member);
  const again = await post(`/v1/dead-letters/${id}/redrive`, { queue: 'other' });
  const retried = await post(`/v1/jobs/${id}/retry`);
  for (const answer of [again, retried])
    assert.deepEqual([answer.status, answer.json.id], [202, made.json.id]);
  assert.deepEqual(idsOf(await get('/v1/dead-letters?queue=d')), []);
  const { json } = await get(`/v1/dead-letters/${id}`);
  assert.deepEqual([json.listed, json.redriven_as], [false, made.json.id]);
  const discarded = await post(`/v1/dead-letters/${id}/discard`);
  assert.deepEqual([discarded.status, discarded.json.code], [409, 'job-state-conflict']);
  const { json: book } = await get(`/v1/audit?target=${id}`);
  assert.deepEqual(
    book.items.map((row: Record<string, unknown>) => [row.actor, row.action, row.reason, row.facts]),
    [['ada', 'dead_letter.redrive', asked.reason, { redriven_as: made.json.id }]],
  );
});

test('a redrive to another queue, later and with other attempts is so', async () => {
  const id = await died({ queue: 'e', message: 'no' });
  const run_at = new Date(Date.now() + 3_600_000).toISOString();
  const { json } = await post(`/v1/dead-letters/${id}/redrive`, { queue: 'e2', run_at, max_attempts: 2 });
  const { state, queue, type, max_attempts } = json;
  assert.deepEqual([state, queue, type, max_attempts, json.run_at], ['scheduled', 'e2', 'work', 2, run_at]);
});

test('a retry takes the letter out of the list, too', async () => {
  const id = await died({ queue: 'y', message: 'no' });
  await post(`/v1/jobs/${id}/retry`);
  assert.deepEqual(idsOf(await get('/v1/dead-letters?queue=y')), []);
});

test('a discard takes a letter out of the list, once, and leaves the job to be read', async () => {
  const id = await died({ queue: 'x', message: 'no' });
  for (let n = 0; n < 2; n++) {
    const { status, json } = await post(`/v1/dead-letters/${id}/discard`, { reason: 'known' });
    assert.deepEqual([status, json.state], [200, 'dead']);
  }
  assert.deepEqual(idsOf(await get('/v1/dead-letters?queue=x')), []);
  assert.equal((await get(`/v1/dead-letters/${id}`)).json.discarded, true);
  assert.equal((await get(`/v1/audit?target=${id}`)).json.items.length, 1);
  const redriven = await post(`/v1/dead-letters/${id}/redrive`);
  assert.deepEqual([redriven.status, redriven.json.code], [409, 'job-state-conflict']);
  assert.equal((await post(`/v1/jobs/${id}/retry`)).status, 202);
});

test('what has not died cannot be decided about', async () => {
  const { json: open } = await post('/v1/jobs', { queue: 'z', type: 'work' });
  for (const verb of ['redrive', 'discard']) {
    const { status, json } = await post(`/v1/dead-letters/${open.id}/${verb}`);
    assert.deepEqual([status, json.code], [409, 'job-state-conflict']);
    assert.equal((await post(`/v1/dead-letters/999999999/${verb}`)).status, 404);
  }
});

test('a redriven job whose unique key another holds by now waits for that one, and then runs', async () => {
  const unique = { key: 'redriven', while: ['queued', 'running'], on_conflict: 'reject' };
  const id = await died({ queue: 'u', message: 'no', options: { unique } });
  const { json: holder } = await post('/v1/jobs', { queue: 'u', type: 'work', unique });
  const { status, json: made } = await post(`/v1/dead-letters/${id}/redrive`);
  assert.equal(status, 202);
  const stateOf = async () => (await get(`/v1/jobs/${made.id}`)).json.state;
  await until(async () => (await stateOf()) === 'blocked');
  const { json } = await post('/v1/leases', { worker: 'w1', queues: ['u'], limit: 5 });
  assert.deepEqual(
    json.leases.map(({ job }: { job: { id: string } }) => job.id),
    [holder.id],
  );
  await post(`/v1/leases/${json.leases[0].id}/complete`);
  await until(async () => (await stateOf()) === 'queued');
});

test('a redrive into a queue that is drained is refused, and the letter stays', async () => {
  const id = await died({ queue: 'closing', message: 'no' });
  const taken = await died({ queue: 'closing', message: 'no' });
  const { json: before } = await post(`/v1/dead-letters/${taken}/redrive`);
  await post('/v1/queues/closing/drain', {});
  for (const wish of [{}, { queue: 'closing' }]) {
    const { status, json } = await post(`/v1/dead-letters/${id}/redrive`, wish);
    assert.deepEqual([status, json.code], [409, 'queue-draining']);
  }
  assert.deepEqual(idsOf(await get('/v1/dead-letters?queue=closing')), [id]);
  const again = await post(`/v1/dead-letters/${taken}/redrive`);
  assert.deepEqual([again.status, again.json.id], [202, before.id], 'it has its answer already');
  assert.equal((await post(`/v1/dead-letters/${id}/redrive`, { queue: 'opening' })).status, 202);
});

test('deaths of before there were fingerprints are no cause together, and are told apart by queue and type', async () => {
  await db.many(plantNameless);
  const { json } = await get('/v1/dead-letters?group_by=fingerprint&queue=nameless');
  const told = json.groups.map((group: Record<string, unknown>) => [
    ...[group.fingerprint, group.type, group.queues, group.count],
  ]);
  assert.deepEqual(told, [
    [null, 'b', ['nameless'], 3],
    [null, 'a', ['nameless'], 2],
  ]);
});

const plantNameless = sql<never>`
with l as (insert into errand.lane (queue, route) values ('nameless', 'a'), ('nameless', 'b') returning id, route)
insert into errand.dead_letter (job_id, died_at, lane, class, source)
select 6000000 + l.id * 10 + n, errand.now() - n * interval '1 s', l.id, 'permanent', 'handler'
from l cross join generate_series(1, case l.route when 'a' then 2 else 3 end) n`;

const plant = sql<never>`
with l as (insert into errand.lane (queue, route) select 'many', 'many' returning id)
insert into errand.dead_letter (job_id, died_at, lane, class, source, fingerprint)
select 5000000 + n, errand.now() - n * interval '1 s', l.id, 'permanent', 'handler', case n % 2 when 0 then 'aa' end
from l, generate_series(1, 12000) n`;

test('a question of many letters is answered by a bounded look, and says so', async () => {
  await db.many(plant);
  const groups = await get('/v1/dead-letters?group_by=fingerprint&queue=many');
  const { json } = groups;
  assert.deepEqual([json.looked, json.exact], [10_000, false]);
  assert.deepEqual(
    json.groups.map((group: { count: number }) => group.count),
    [5_000, 5_000],
  );
  const page = await get('/v1/dead-letters?queue=many&source=target');
  assert.deepEqual(page.json.items, []);
  assert.notEqual(page.json.next_cursor, null);
});
