// Unique jobs over sockets, on a real database: every door takes a key, and every answer to a conflict names a job; a holder
// whose worker is lost runs again before the job that waits for it, and that one once.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { calling } from '../support/call.ts';
import { startErrand, type TestErrand } from '../support/errand.ts';
import { startService } from '../support/process.ts';
import { until } from '../support/until.ts';

let errand: TestErrand;
before(async () => {
  errand = await startErrand();
});
after(() => errand.stop());

const call = calling(() => errand.url);
const { get, post } = call;
const put = (path: string, body: unknown) => call('PUT', path, body);

const later = { delay_seconds: 600 };
let types = 0;
const newType = () => `unique-${types++}`;

interface Lease {
  id: string;
  epoch: number;
  job: { id: string; payload: unknown };
}

async function lease(type: string, lease_seconds = 30): Promise<Lease | undefined> {
  const { json } = await post('/v1/leases', { types: [type], lease_seconds });
  return json.leases[0];
}

/** Waits until there is one to lease. */
const leased = (type: string) => until(() => lease(type), { everyMs: 100 });

const stateOf = async (id: string) => (await get(`/v1/jobs/${id}`)).json.state;

test('a submit whose key is held is answered with the holder, or with where it is', async () => {
  const type = newType();
  const first = await post('/v1/jobs', { type, ...later, unique: { key: type } });
  assert.deepEqual(first.json.unique, {
    key: type,
    while: ['scheduled', 'queued', 'running', 'retrying'],
    on_conflict: 'return',
  });
  const again = await post('/v1/jobs', { type, ...later, unique: { key: type } });
  assert.deepEqual([again.status, again.headers.get('errand-deduplicated')], [202, 'true']);
  assert.equal(again.headers.get('idempotency-replayed'), null);
  assert.deepEqual(
    [again.headers.get('location'), again.json.id],
    [first.headers.get('location'), first.json.id],
  );
  const refused = await post('/v1/jobs', { type, unique: { key: type, on_conflict: 'reject' } });
  assert.deepEqual([refused.status, refused.json.code], [409, 'job-not-unique']);
  assert.equal(refused.headers.get('location'), first.headers.get('location'));
  assert.deepEqual(refused.json.job, { id: first.json.id, state: 'scheduled' });
});

test('a demand waits for the holder of another request, and never cancels it', async () => {
  const type = newType();
  const first = await post('/v1/jobs', { type, unique: { key: type } });
  const { status, json } = await post(
    '/v1/jobs',
    { type, unique: { key: type } },
    { 'errand-expect': '200-ok', prefer: 'wait=1' },
  );
  assert.deepEqual([status, json.executed, json.job.id], [417, 'pending', first.json.id]);
  assert.equal(await stateOf(first.json.id), 'queued');
});

test('who waits for a job that is superseded is told where the work goes on', async () => {
  const type = newType();
  const job = { type, unique: { key: type, on_conflict: 'replace' } };
  const waits = post('/v1/jobs', job, { 'errand-expect': '200-ok', prefer: 'wait=10' });
  const [old] = await until(async () => {
    const { items } = (await get(`/v1/jobs?type=${type}`)).json;
    return items.length > 0 && items;
  });
  const fresh = await post('/v1/jobs', job);
  const { status, json, headers } = await waits;
  assert.deepEqual([status, json.code, json.job.id], [409, 'job-cancelled', old.id]);
  assert.equal(headers.get('location'), fresh.headers.get('location'));
});

test('what cannot be meant is refused with a pointer', async () => {
  for (const [unique, pointer] of [
    [{ key: 'a', while: ['running'] }, '#/unique/while'],
    [{ key: 'a', on_conflict: 'rerun', window_seconds: 5 }, '#/unique/window_seconds'],
    [{ while: ['queued'] }, '#/unique/key'],
    [{ key: 'a', until: 'dawn' }, '#/unique/until'],
  ] as const) {
    for (const path of ['/v1/jobs', '/v1/jobs/validate']) {
      const { status, json } = await post(path, { type: 'work', unique });
      assert.deepEqual([status, json.errors[0].pointer], [422, pointer], path);
    }
  }
  const job = { type: 'work', unique: { key: 'a', on_conflict: 'reject' } };
  const { status, json } = await put('/v1/schedules/rejecting', { cron: '@daily', job });
  assert.deepEqual([status, json.errors[0].pointer], [422, '#/job/unique/on_conflict']);
});

test('a batch tells which of its jobs are those of others', async () => {
  const type = newType();
  const unique = { key: type };
  const { json } = await post('/v1/jobs/batch', {
    jobs: [
      { type, ...later, unique },
      { type, ...later, unique },
      { type, ...later },
    ],
  });
  const [one, two, three] = json.jobs;
  assert.deepEqual([one.deduplicated, two.deduplicated, three.deduplicated], [undefined, true, undefined]);
  assert.deepEqual([two.id, two.location], [one.id, one.location]);
  const each = await post('/v1/jobs/batch', {
    atomic: false,
    jobs: [
      { type, unique: { ...unique, on_conflict: 'reject' } },
      { type, ...later },
    ],
  });
  assert.deepEqual(
    each.json.items.map((item: { status: number }) => item.status),
    [409, 202],
  );
});

test('in a batch that is not atomic a held key concerns its own job alone, also where the call has a key', async () => {
  const type = newType();
  const holder = await post('/v1/jobs', { type, ...later, unique: { key: type } });
  const body = {
    atomic: false,
    jobs: [
      { type, unique: { key: type, on_conflict: 'reject' } },
      { type, ...later },
    ],
  };
  const send = () => post('/v1/jobs/batch', body, { 'idempotency-key': type });
  const statuses = ({ json }: { json: { items: { status: number }[] } }) =>
    json.items.map((item) => item.status);
  const first = await send();
  assert.deepEqual([first.status, statuses(first)], [207, [409, 202]]);
  await post(`/v1/jobs/${holder.json.id}/cancel`);
  const again = await send();
  assert.deepEqual(statuses(again), [202, 202]);
  assert.equal(again.json.items[1].job.id, first.json.items[1].job.id);
});

test('a job that replaces another stands where that one stood in the line', async () => {
  const type = newType();
  const unique = { key: type, on_conflict: 'replace' };
  await post('/v1/jobs', { type, payload: 'old', unique });
  await post('/v1/jobs', { type, payload: 'between' });
  await post('/v1/jobs', { type, payload: 'new', unique });
  await post('/v1/jobs', {
    type,
    payload: 'less urgent',
    priority: 9,
    unique: { ...unique, key: `${type}-9` },
  });
  await post('/v1/jobs', { type, payload: 'urgent', priority: 1, unique: { ...unique, key: `${type}-9` } });
  const order: unknown[] = [];
  for (let n = 0; n < 3; n++) order.push((await leased(type)).job.payload);
  assert.deepEqual(order, ['urgent', 'new', 'between']);
  assert.equal(await lease(type), undefined);
});

const idOf = (job: unknown) => (job as { id: string }).id;

test('a raw payload has its key in a header', async () => {
  const type = newType();
  const raw = (headers: Record<string, string>) =>
    fetch(`${errand.url}/v1/queues/raw/jobs`, {
      method: 'POST',
      body: 'x',
      headers: { 'errand-type': type, 'errand-delay': '600', 'errand-unique-key': type, ...headers },
    });
  const first = await raw({});
  const second = await raw({ 'errand-on-conflict': 'replace' });
  const [old, fresh] = [idOf(await first.json()), idOf(await second.json())];
  assert.equal(await stateOf(old), 'cancelled');
  assert.equal((await get(`/v1/jobs/${old}`)).json.error.detail, `superseded by job ${fresh}`);
  const wrong = await raw({ 'errand-on-conflict': 'maybe' });
  assert.deepEqual(
    [wrong.status, ((await wrong.json()) as { errors: { pointer: string }[] }).errors[0]?.pointer],
    [400, '#/Errand-On-Conflict'],
  );
  const foreign = await raw({ 'errand-unique-key': 'größe' });
  assert.deepEqual(
    [foreign.status, ((await foreign.json()) as { errors: { pointer: string }[] }).errors[0]?.pointer],
    [400, '#/Errand-Unique-Key'],
  );
});

test('a slot whose key is held has the holder as its job', async () => {
  const type = newType();
  const holder = await post('/v1/jobs', { type, ...later, unique: { key: type } });
  const job = { type, unique: { key: type } };
  const defined = await put(`/v1/schedules/${type}`, { cron: '@yearly', job });
  assert.equal(defined.status, 201);
  assert.deepEqual(defined.json.job.unique, holder.json.unique, 'the record says what was defined');
  const fired = await post(`/v1/schedules/${type}/trigger`);
  assert.deepEqual([fired.status, fired.headers.get('errand-deduplicated')], [202, 'true']);
  assert.equal(fired.json.id, holder.json.id);
  const { json } = await get(`/v1/schedules/${type}/runs`);
  assert.equal(json.items[0].job_id, holder.json.id);
});

test('a schedule fired by hand while the job of its key runs is told of that job, and of no fault in its request', async () => {
  const type = newType();
  const job = { type, unique: { key: type, on_conflict: 'replace' } };
  await put(`/v1/schedules/${type}`, { cron: '@yearly', job });
  const { json: first } = await post(`/v1/schedules/${type}/trigger`);
  await leased(type);
  const { status, headers, json } = await post(`/v1/schedules/${type}/trigger`);
  assert.deepEqual([status, json.code, json.errors], [409, 'job-not-unique', undefined]);
  assert.equal(headers.get('location'), `/v1/jobs/${first.id}/status`);
});

test('a rerun waits for a holder whose worker is lost to run again, and runs once after it', async () => {
  const type = newType();
  const unique = { key: type, on_conflict: 'rerun' };
  const a = await post('/v1/jobs', { type, payload: 'a', unique });
  assert.equal((await lease(type, 1))?.job.id, a.json.id);
  const b = await post('/v1/jobs', { type, payload: 'b', unique });
  assert.deepEqual([b.json.state, b.json.blocked_by, b.json.blocked_reason], ['blocked', a.json.id, 'rerun']);
  const why = await get(`/v1/jobs/${b.json.id}/why`);
  assert.equal(why.json.reasons[0].job_id, a.json.id);
  // Nobody renews the lease: its worker is gone.
  const again = await leased(type);
  assert.deepEqual([again.job.id, again.epoch], [a.json.id, 2]);
  assert.equal(await stateOf(b.json.id), 'blocked');
  assert.equal((await post(`/v1/leases/${again.id}/complete`, { result: 1 })).status, 200);
  const second = await leased(type);
  assert.deepEqual([second.job.id, second.job.payload, second.epoch], [b.json.id, 'b', 1]);
  assert.equal((await post(`/v1/leases/${second.id}/complete`, { result: 2 })).status, 200);
  assert.equal(await lease(type), undefined);
});

test('a blocked job has a history of its own, and is told when it goes on', async () => {
  const type = newType();
  const unique = { key: type, on_conflict: 'rerun' };
  await post('/v1/jobs', { type, unique });
  const holder = (await lease(type)) as Lease;
  const { json } = await post('/v1/jobs', { type, unique });
  const { json: events } = await get(`/v1/jobs/${json.id}/events`);
  assert.deepEqual(
    events.items.map((item: { data: { state: string } }) => item.data.state),
    ['blocked'],
  );
  await post(`/v1/leases/${holder.id}/fail`, { class: 'permanent' });
  assert.equal((await leased(type)).job.id, json.id);
});

test('who waits goes on within a second or two where the process that ended the holder was killed at once', async () => {
  const type = newType();
  const unique = { key: type, on_conflict: 'rerun' };
  // It takes requests and lets nobody go: what is to happen after the end is left to the others.
  const other = await startService({
    env: { DATABASE_URL: errand.databaseUrl, ERRAND_ROLES: 'api', ERRAND_LOG_LEVEL: 'error' },
  });
  const there = calling(() => other.url);
  await there.post('/v1/jobs', { type, unique });
  const { json } = await there.post('/v1/leases', { types: [type] });
  const waits = await there.post('/v1/jobs', { type, payload: 'newest', unique });
  assert.equal(waits.json.state, 'blocked');
  const done = await there.post(`/v1/leases/${json.leases[0].id}/complete`, { result: 1 });
  await other.kill9();
  assert.equal(done.status, 200);
  const began = performance.now();
  const next = await leased(type);
  assert.deepEqual([next.job.id, next.job.payload], [waits.json.id, 'newest']);
  const took = performance.now() - began;
  assert.ok(took < 2_500, `it went on after ${Math.round(took)} ms`);
});
