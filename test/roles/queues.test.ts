// Queues as operators see them: what is set is kept whole, changed only by who has seen it, and deleted only when empty.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { defineHandler } from '../../src/errand.ts';
import { type Called, calling } from '../support/call.ts';
import { startErrand, type TestErrand } from '../support/errand.ts';
import { until } from '../support/until.ts';

let errand: TestErrand;
const call = calling(() => errand.url);
const free = new Map<string, () => void>();

before(async () => {
  const held = defineHandler({
    type: 'held',
    run: (payload) => new Promise<void>((resolve) => free.set(String(payload), resolve)),
  });
  errand = await startErrand({ handlers: [defineHandler({ type: 'quick', run: () => 1 }), held] });
});

after(() => errand.stop());

const pull = (queue: string, lever: string, body: object = {}) =>
  call.post(`/v1/queues/${queue}/${lever}`, body);

const tagOf = ({ headers }: Called) => ({ 'if-match': headers.get('etag') as string });

async function made(queue: string, settings: object = {}): Promise<Called> {
  const answer = await call('PUT', `/v1/queues/${queue}`, settings);
  assert.equal(answer.status, 201, JSON.stringify(answer.json));
  return answer;
}

test('a queue nobody has named is none, and the answer says how to make it', async () => {
  for (const [method, path] of [
    ['GET', ''],
    ['PATCH', ''],
    ['DELETE', ''],
    ['POST', '/pause'],
    ['POST', '/resume'],
    ['POST', '/drain'],
  ] as const) {
    const body = method === 'PATCH' ? { max_depth: 1 } : method === 'POST' ? {} : undefined;
    const answer = await call(method, `/v1/queues/nobody${path}`, body);
    assert.equal(answer.status, 404, `${method} ${path}`);
    assert.match(answer.json.detail, /make it by PUT \/v1\/queues\/nobody/);
  }
  assert.equal((await call.get('/v1/queues/nobody')).status, 404, 'asking has not made it');
});

test('a queue is made with its settings, and the defaults of what was not said', async () => {
  const answer = await made('made', { max_depth: 10, types: { mail: { outcome: 'result' } } });
  assert.equal(answer.headers.get('location'), '/v1/queues/made');
  const { json } = await call.get('/v1/queues/made');
  const { stats: _, ...record } = json;
  const { stats: __, ...told } = answer.json;
  assert.deepEqual(record, told);
  assert.equal(json.state, 'active');
  assert.equal(json.max_depth, 10);
  assert.equal(json.sync, 'allowed');
  assert.equal(json.critical_priority, 0);
  assert.deepEqual(json.types.mail, {
    max_attempts: null,
    timeout_seconds: null,
    backoff: null,
    max_age_seconds: null,
    outcome: 'result',
  });
});

test('a queue is there once a job names it, with the defaults', async () => {
  await call.post('/v1/jobs', { queue: 'named', type: 'unserved' });
  const answer = await call.get('/v1/queues/named');
  assert.equal(answer.status, 200);
  assert.equal(answer.json.sync, 'allowed');
  assert.equal((await pull('named', 'resume')).json.changed, false);
  assert.equal((await call.get('/v1/queues/named')).json.created_at, null, 'nobody has set anything');
  const unseen = await call('PUT', '/v1/queues/named', { sync: 'sync_only' });
  assert.equal(unseen.status, 428);
  assert.equal(unseen.headers.get('etag'), answer.headers.get('etag'));
  assert.equal((await call('PUT', '/v1/queues/named', { sync: 'sync_only' }, tagOf(answer))).status, 200);
});

test('a queue that exists is changed only by who names its version', async () => {
  const first = await made('seen', { max_depth: 5 });
  const put = (settings: object, headers: Record<string, string>) =>
    call('PUT', '/v1/queues/seen', settings, headers);
  assert.equal((await put({ max_depth: 6 }, {})).status, 428);
  assert.equal((await put({ max_depth: 6 }, { 'if-match': '"9.0.000"' })).status, 412);
  assert.equal((await put({ max_depth: 6 }, { 'if-none-match': '*' })).status, 412);
  assert.equal((await put({ max_depth: 5 }, {})).status, 200, 'what is in force is no change');
  const second = await put({ max_depth: 6 }, tagOf(first));
  assert.equal(second.status, 200);
  assert.equal((await put({ max_depth: 7 }, tagOf(first))).status, 412);
  const [a, b] = await Promise.all([
    put({ max_depth: 8 }, tagOf(second)),
    put({ max_depth: 9 }, tagOf(second)),
  ]);
  assert.deepEqual([a.status, b.status].sort(), [200, 412]);
  assert.equal((await call('PUT', '/v1/queues/new', {}, { 'if-match': '"1.0.000"' })).status, 412);
  assert.equal((await call('PUT', '/v1/queues/new', {}, { 'if-none-match': '*' })).status, 201);
});

test('a patch changes what it names, null is the default, and the whole must hold', async () => {
  const first = await made('patched', {
    default_wait_seconds: 3,
    defaults: { max_attempts: 4, timeout_seconds: 9 },
    types: { a: { max_attempts: 1 }, b: { max_attempts: 2 } },
  });
  const patch = (body: object, headers: Record<string, string> = tagOf(first)) =>
    call('PATCH', '/v1/queues/patched', body, headers);
  assert.equal((await patch({}, {})).status, 422, 'it names nothing');
  assert.equal((await patch({ max_depth: 1 }, {})).status, 428);
  const contradiction = await patch({ sync: 'async_only' });
  assert.equal(contradiction.status, 422);
  assert.equal(contradiction.json.errors[0].pointer, '#/default_wait_seconds');
  assert.equal((await call.get('/v1/queues/patched')).json.sync, 'allowed', 'refused as a whole');
  const second = await patch({
    sync: 'async_only',
    default_wait_seconds: null,
    defaults: { max_attempts: null },
    types: { a: null, b: { timeout_seconds: 5 } },
  });
  assert.equal(second.status, 200, JSON.stringify(second.json));
  assert.equal(second.json.default_wait_seconds, null);
  assert.equal(second.json.defaults.max_attempts, null);
  assert.equal(second.json.defaults.timeout_seconds, 9);
  assert.deepEqual(Object.keys(second.json.types), ['b']);
  assert.equal(second.json.types.b.max_attempts, 2);
  assert.equal(second.json.types.b.timeout_seconds, 5);
  const emptied = await patch({ sync: null, defaults: null, types: null }, tagOf(second));
  assert.deepEqual(emptied.json.types, {});
  assert.equal(emptied.json.sync, 'allowed');
  const again = await patch({ sync: null }, tagOf(emptied));
  assert.equal(again.headers.get('etag'), emptied.headers.get('etag'), 'it changed nothing');
});

for (const [what, body, pointer] of [
  ['an unknown member', { depth: 1 }, '#/depth'],
  ['a wrong type', { max_depth: 'ten' }, '#/max_depth'],
  ['an age of nothing', { max_oldest_age_seconds: 0 }, '#/max_oldest_age_seconds'],
  ['a type with an unknown member', { types: { mail: { attempts: 1 } } }, '#/types/mail/attempts'],
] as const) {
  test(`settings with ${what} are refused with a pointer`, async () => {
    const answer = await call('PUT', '/v1/queues/refused', body);
    assert.equal(answer.status, 422);
    assert.equal(answer.json.errors[0].pointer, pointer);
    assert.equal((await call.get('/v1/queues/refused')).status, 404);
  });
}

test('a queue with an open job is not deleted; an empty one is, and comes back with its next job', async () => {
  const tag = tagOf(await made('bin', { max_depth: 3 }));
  await call.post('/v1/jobs', { queue: 'bin', type: 'unserved', delay_seconds: 600 });
  const full = await call('DELETE', '/v1/queues/bin', undefined, tag);
  assert.equal(full.status, 409);
  assert.equal(full.json.code, 'queue-not-empty');
  assert.equal(full.json.detail, 'queue "bin" has jobs that wait; drain, reroute or purge it first');
  const { items } = (await call.get('/v1/jobs?queue=bin')).json;
  await call.post(`/v1/jobs/${items[0].id}/cancel`);
  assert.equal((await call('DELETE', '/v1/queues/bin')).status, 428);
  assert.equal((await call('DELETE', '/v1/queues/bin', undefined, tag)).status, 204);
  assert.equal((await call('DELETE', '/v1/queues/bin', undefined, tag)).status, 404);
  assert.equal((await call.get('/v1/queues/bin')).status, 404);
  assert.equal((await call.get(`/v1/jobs/${items[0].id}`)).status, 200, 'its jobs stay');
  await call.post('/v1/jobs', { queue: 'bin', type: 'quick' });
  const back = await call.get('/v1/queues/bin');
  assert.equal(back.status, 200);
  assert.equal(back.json.max_depth, null);
  assert.notEqual(back.headers.get('etag'), tag['if-match'], 'no version comes twice');
});

test('queues are listed by name, those that were set and those that were only named', async () => {
  for (const name of ['list-c', 'list-a']) await made(name);
  await call.post('/v1/jobs', { queue: 'list-b', type: 'quick' });
  const seen: string[] = [];
  let path: string | null = '/v1/queues?limit=2';
  while (path !== null) {
    const page: Called = await call.get(path);
    assert.ok(page.json.items.length <= 2);
    seen.push(...page.json.items.map((one: { name: string }) => one.name));
    const link: string | null = page.headers.get('link');
    path = link === null ? null : (/<(.*?)>/.exec(link)?.[1] ?? null);
    assert.equal(page.json.next_cursor === null, path === null);
  }
  assert.deepEqual(seen, [...new Set(seen)].sort());
  assert.deepEqual(
    seen.filter((name) => name.startsWith('list-')),
    ['list-a', 'list-b', 'list-c'],
  );
  assert.equal((await call.get('/v1/queues?cursor=x')).json.code, 'cursor-invalid');
});

test('a pause holds what waits, says what still runs, and pulled again changes nothing', async () => {
  await call.post('/v1/jobs', { queue: 'p', type: 'held', payload: 'p1' });
  await until(() => free.has('p1'));
  const paused = await pull('p', 'pause', { reason: 'bad deploy' });
  assert.equal(paused.status, 200);
  const { state, changed, pause, running } = paused.json;
  assert.deepEqual(
    [state, changed, pause.reason, pause.until, running],
    ['paused', true, 'bad deploy', null, 1],
  );
  const full = await call('DELETE', '/v1/queues/p', undefined, tagOf(paused));
  assert.match(full.json.detail, /has 1 job that runs; let what runs end first/);
  const again = await pull('p', 'pause', { reason: 'bad deploy' });
  assert.equal(again.json.changed, false);
  assert.equal(again.headers.get('etag'), paused.headers.get('etag'));
  const { id } = (await call.post('/v1/jobs', { queue: 'p', type: 'quick' })).json;
  free.get('p1')?.();
  await until(async () => (await call.get('/v1/queues/p')).json.running === 0);
  assert.equal((await call.get(`/v1/jobs/${id}`)).json.state, 'queued');
  const later = await pull('p', 'pause', { reason: 'longer', until: '2999-01-01T00:00:00Z' });
  assert.equal(later.json.changed, true);
  assert.equal(later.json.pause.since, pause.since, 'it is the same pause');
  const started = errand.next('job.claimed', ({ job_id }) => job_id === id);
  const began = performance.now();
  const resumed = await pull('p', 'resume');
  assert.deepEqual([resumed.json.state, resumed.json.changed, resumed.json.pause], ['active', true, null]);
  await started;
  assert.ok(performance.now() - began < 1_000);
  assert.equal((await pull('p', 'resume')).json.changed, false);
});

test('what a lever that is pulled again does not say stays as it stands, and null takes it away', async () => {
  await made('again');
  const end = '2999-01-01T00:00:00.000Z';
  for (const [lever, by] of [
    ['pause', 'until'],
    ['drain', 'deadline'],
  ] as const) {
    const first = await pull('again', lever, { [by]: end, reason: 'bad deploy' });
    const bare = await call.post(`/v1/queues/again/${lever}`);
    assert.equal(bare.json.changed, false, lever);
    assert.deepEqual(bare.json[lever], first.json[lever]);
    assert.equal((await pull('again', lever, { reason: 'bad deploy' })).json.changed, false);
    const other = await pull('again', lever, { reason: 'worse' });
    assert.deepEqual([other.json[lever].reason, other.json[lever][by]], ['worse', end]);
    const none = await pull('again', lever, { reason: null, [by]: null });
    assert.deepEqual([none.json[lever].reason, none.json[lever][by]], [null, null]);
    assert.equal(none.json[lever].since, first.json[lever].since);
  }
  await pull('again', 'pause', { types: ['a'], until: end, reason: 'smtp is down' });
  const both = await pull('again', 'pause', { types: ['a', 'b'] });
  assert.deepEqual(
    both.json.paused_types.map((one: Record<string, string>) => [one.type, one.until, one.reason]),
    [
      ['a', end, 'smtp is down'],
      ['b', null, null],
    ],
  );
  const ends = new Date(Date.now() + 500).toISOString();
  const { since } = (await pull('again', 'pause', { reason: 'short', until: ends })).json.pause;
  const { pause } = await until(async () => {
    const { json } = await pull('again', 'pause');
    return json.pause.since !== since && json;
  });
  assert.deepEqual([pause.reason, pause.until], [null, null], 'what has ended does not stand any more');
});

test('metrics tell what is paused and drained, and no more once it is over', async () => {
  await made('told');
  await pull('told', 'pause');
  await pull('told', 'pause', { types: ['mail'] });
  await pull('told', 'drain');
  const levers = async () => {
    const text: string = (await call.get('/metrics')).json;
    return text.split('\n').filter((line) => /^errand_queue_(paused|draining)\{queue="told"/.test(line));
  };
  assert.deepEqual(await levers(), [
    'errand_queue_paused{queue="told",type="*"} 1',
    'errand_queue_paused{queue="told",type="mail"} 1',
    'errand_queue_draining{queue="told"} 1',
  ]);
  await pull('told', 'resume');
  await pull('told', 'resume', { types: ['mail'] });
  assert.deepEqual(await levers(), []);
});

test('types are paused and resumed on their own, also for who leases', async () => {
  await made('t');
  const paused = await pull('t', 'pause', { types: ['mail', 'unheard'], reason: 'smtp is down' });
  assert.deepEqual(
    paused.json.paused_types.map(({ type, reason }: Record<string, string>) => [type, reason]),
    [
      ['mail', 'smtp is down'],
      ['unheard', 'smtp is down'],
    ],
  );
  assert.equal(paused.json.state, 'active');
  for (const type of ['mail', 'other']) await call.post('/v1/jobs', { queue: 't', type });
  const lease = async () =>
    (await call.post('/v1/leases', { worker: 'w', queues: ['t'], limit: 5 })).json.leases.map(
      (one: { job: { type: string } }) => one.job.type,
    );
  assert.deepEqual(await lease(), ['other']);
  assert.equal((await pull('t', 'resume')).json.changed, false, 'the queue itself was not paused');
  assert.deepEqual(await lease(), []);
  const resumed = await pull('t', 'resume', { types: ['mail'] });
  assert.equal(resumed.json.changed, true);
  assert.deepEqual(
    resumed.json.paused_types.map(({ type }: Record<string, string>) => type),
    ['unheard'],
  );
  assert.deepEqual(await lease(), ['mail']);
});

test('a drain refuses no job that is there, says when it is done, and is undone by resume', async () => {
  await call.post('/v1/jobs', { queue: 'd', type: 'held', payload: 'd1' });
  await until(() => free.has('d1'));
  const drained = await pull('d', 'drain', { deadline: '2999-01-01T00:00:00Z', reason: 'moving' });
  assert.equal(drained.status, 202);
  assert.equal(drained.headers.get('location'), '/v1/queues/d');
  const { state, changed, drain } = drained.json;
  assert.deepEqual([state, changed, drain.done, drain.overdue], ['draining', true, false, false]);
  assert.equal(
    (await pull('d', 'drain', { deadline: '2999-01-01T00:00:00Z', reason: 'moving' })).json.changed,
    false,
  );
  free.get('d1')?.();
  await until(async () => (await call.get('/v1/queues/d')).json.drain.done);
  const resumed = await pull('d', 'resume');
  assert.deepEqual([resumed.json.state, resumed.json.drain], ['active', null]);
});

test('a drain that was not done in time says so and stands', async () => {
  await call.post('/v1/jobs', { queue: 'late', type: 'unserved' });
  const deadline = new Date(Date.now() + 300).toISOString();
  await pull('late', 'drain', { deadline });
  const overdue = await until(async () => {
    const { json } = await call.get('/v1/queues/late');
    return json.drain.overdue && json;
  });
  assert.equal(overdue.state, 'draining');
  assert.equal(overdue.drain.done, false);
  for (const body of [{}, { deadline }]) {
    assert.equal((await pull('late', 'drain', body)).json.changed, false, 'it stands already');
  }
});

for (const [lever, body, pointer] of [
  ['pause', { until: '2001-01-01T00:00:00Z' }, '#/until'],
  ['pause', { types: [] }, '#/types'],
  ['pause', { types: ['No'] }, '#/types/0'],
  ['pause', { why: 'x' }, '#/why'],
  ['drain', { deadline: '2001-01-01T00:00:00Z' }, '#/deadline'],
  ['drain', { types: ['a'] }, '#/types'],
  ['resume', { until: '2999-01-01T00:00:00Z' }, '#/until'],
] as const) {
  test(`${lever} with ${JSON.stringify(body)} is refused with a pointer`, async () => {
    await call('PUT', '/v1/queues/strict', {});
    const answer = await pull('strict', lever, body);
    assert.equal(answer.status, 422);
    assert.equal(answer.json.errors[0].pointer, pointer);
    assert.equal((await call.get('/v1/queues/strict')).json.state, 'active');
  });
}

test('every change is in the audit once, with who and why, and what changed nothing is not', async () => {
  await made('book', { max_depth: 1 });
  const headers = { 'errand-actor': 'ada' };
  for (const _ of [1, 2]) {
    await call.post('/v1/queues/book/pause', { reason: 'look' }, headers);
    await call.post('/v1/queues/book/drain', {}, headers);
    await call.post('/v1/queues/book/resume', {}, headers);
    await call.post('/v1/queues/book/resume', {}, headers);
  }
  const { items } = (await call.get('/v1/audit?target=book')).json;
  assert.deepEqual(
    items.map((row: Record<string, string>) => `${row.actor} ${row.action} ${row.reason}`).reverse(),
    [
      'anonymous queue.put null',
      ...['ada queue.pause look', 'ada queue.drain null', 'ada queue.resume null'],
      ...['ada queue.pause look', 'ada queue.drain null', 'ada queue.resume null'],
    ],
  );
});
