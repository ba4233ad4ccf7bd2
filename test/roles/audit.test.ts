// The book of what operators do: written with the lever or not at all, never changed, read page by page.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, beforeEach, describe, test } from 'node:test';
import { audit } from '../../src/store/audit.ts';
import type { Pool } from '../../src/store/db.ts';
import { sql } from '../../src/store/sql.ts';
import { calling } from '../support/call.ts';
import { type Document, operationsOf } from '../support/contract.ts';
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

const by = (actor: string) => ({ actor, request_id: 'r1' });
let turn = 0;
let target = '';

beforeEach(() => {
  target = `queue-${turn++}`;
});

const deeds = (actor: string, actions: readonly `${string}.${string}`[]) =>
  db.transaction(async (tx) => {
    for (const action of actions) await audit(tx, by(actor), { action, target, facts: { n: 1 } });
  });

test('a row is there with its transaction, and gone with it', async () => {
  await deeds('ada', ['queue.pause']);
  const failed = db.transaction(async (tx) => {
    await audit(tx, by('ada'), { action: 'queue.resume', target, reason: 'over' });
    throw new Error('the lever broke');
  });
  await assert.rejects(failed, /the lever broke/);
  const { json } = await get(`/v1/audit?target=${target}`);
  const [row] = json.items;
  assert.deepEqual(
    json.items.map(({ action }: { action: string }) => action),
    ['queue.pause'],
  );
  assert.deepEqual(
    { ...row, id: '', at: '' },
    {
      ...{ id: '', at: '', actor: 'ada', request_id: 'r1', action: 'queue.pause' },
      target,
      reason: null,
      facts: { n: 1 },
    },
  );
});

test('no row can be changed, deleted or truncated', async () => {
  await deeds('ada', ['queue.pause']);
  for (const text of [
    'update errand.audit set actor = $$eve$$',
    'delete from errand.audit',
    'truncate errand.audit',
  ]) {
    await assert.rejects(db.many({ text }), /append-only/, text);
  }
});

test('the walk meets every row once, the newest first, also in lines', async () => {
  const actions = ['queue.pause', 'queue.resume', 'queue.drain', 'queue.put', 'queue.delete'] as const;
  for (const action of actions) await deeds('ada', [action]);
  const seen: string[] = [];
  let path: string | undefined = `/v1/audit?target=${target}&limit=2`;
  while (path !== undefined) {
    const { headers, json } = await get(path, { accept: 'application/x-ndjson' });
    assert.equal(headers.get('content-type'), 'application/x-ndjson');
    for (const line of json.split('\n').filter(Boolean)) seen.push(JSON.parse(line).action);
    path = headers.get('link')?.match(/<(.*)>/)?.[1];
  }
  assert.deepEqual(seen, [...actions].reverse());
});

test('it is asked by actor, action and time', async () => {
  await deeds('ada', ['queue.pause', 'queue.resume']);
  await deeds('bob', ['queue.pause']);
  const count = async (query: string) => (await get(`/v1/audit?target=${target}&${query}`)).json.items.length;
  const past = new Date(Date.now() - 60_000).toISOString();
  const soon = new Date(Date.now() + 60_000).toISOString();
  assert.deepEqual(
    [
      await count('actor=ada'),
      await count('action=queue.pause'),
      await count('actor=bob&action=queue.resume'),
    ],
    [2, 2, 0],
  );
  assert.deepEqual(
    [await count(`from=${past}&to=${soon}`), await count(`to=${past}`), await count(`from=${soon}`)],
    [3, 0, 0],
  );
  assert.equal((await get('/v1/audit?cursor=nope')).json.code, 'cursor-invalid');
});

test('who changes a schedule is told, and what changes nothing is not', async () => {
  const put = (every_seconds: number, headers = {}) =>
    call('PUT', `/v1/schedules/${target}`, { every_seconds, job: { type: 'nobody' } }, headers);
  const who = { 'errand-actor': 'ada', 'x-request-id': 'r-7' };
  await put(60, who);
  await put(60, who);
  await post(`/v1/schedules/${target}/pause`, { reason: 'release' }, who);
  await post(`/v1/schedules/${target}/pause`, { reason: 'again' }, who);
  await post(`/v1/schedules/${target}/resume`, undefined, who);
  const { json: job } = await post(`/v1/schedules/${target}/trigger`, undefined, who);
  const etag = (await get(`/v1/schedules/${target}`)).headers.get('etag') as string;
  await call('PATCH', `/v1/schedules/${target}`, { every_seconds: 90 }, { ...who, 'if-match': etag });
  await call('DELETE', `/v1/schedules/${target}`, undefined, { 'if-match': '*' });
  const { items } = (await get(`/v1/audit?target=${target}`)).json;
  const told = items.map(({ actor, action, reason, facts }: Record<string, unknown>) => [
    actor,
    action,
    reason,
    facts,
  ]);
  assert.deepEqual(told.reverse(), [
    ['ada', 'schedule.put', null, { is_new: true }],
    ['ada', 'schedule.pause', 'release', {}],
    ['ada', 'schedule.resume', null, {}],
    ['ada', 'schedule.trigger', null, { job_id: job.id }],
    ['ada', 'schedule.patch', null, { changed: ['every_seconds'] }],
    ['anonymous', 'schedule.delete', null, {}],
  ]);
  assert.equal(items.at(-1).request_id, 'r-7');
  const refused = await post(`/v1/schedules/${target}/pause`, undefined, { 'errand-actor': 'ä' });
  assert.equal(refused.json.code, 'bad-header');
});

describe('every route of operators', () => {
  const document = JSON.parse(
    readFileSync(new URL('../../openapi/openapi.json', import.meta.url), 'utf8'),
  ) as Document;
  const mutating = operationsOf(document).filter(({ method }) => method !== 'GET');
  const takesActor = ({ object }: (typeof mutating)[number]) =>
    (object.parameters ?? []).some(({ name }) => name === 'Errand-Actor');

  /** A request, once all is as it needs it. */
  type Ask = [method: string, path: string, body?: object | undefined, headers?: Record<string, string>];

  const any = { 'if-match': '*' };
  const letter = async () => {
    await post('/v1/jobs', { queue: target, type: 'dies', max_attempts: 1 });
    // An operation may hold the block for a moment.
    const asked = await post('/v1/leases', { queues: [target], types: ['dies'] }, { prefer: 'wait=5' });
    const { leases } = asked.json;
    await post(`/v1/leases/${leases[0].id}/fail`, { class: 'permanent' });
    return leases[0].job.id;
  };
  const action = async () =>
    (await post('/v1/admin/actions', { action: 'queue.purge', target: 'elsewhere' })).json;
  const paused = async () => {
    await Promise.all([letter(), letter()]);
    const { json } = await post('/v1/dead-letters/redrive', { filter: { queue: target }, canary: 1 });
    await until(async () => (await get(`/v1/operations/${json.id}`)).json.state === 'paused');
    return json.id;
  };
  const held = async () => {
    await post('/v1/jobs', { queue: 'elsewhere', type: 'nobody' });
    const { id, confirm_phrase } = await action();
    const { json } = await post(`/v1/admin/actions/${id}/confirm`, { phrase: confirm_phrase });
    await until(async () => (await get(`/v1/operations/${json.id}`)).json.phase === 'hold');
    return json.id;
  };
  const schedule = (verb: string, body?: object): Ask => ['POST', `/v1/schedules/${target}/${verb}`, body];
  const queue = (verb: string, body?: object): Ask => ['POST', `/v1/queues/${target}/${verb}`, body];

  /** In this order, because each leaves what the next one needs. */
  const asks: Record<string, () => Ask | Promise<Ask>> = {
    putSchedule: () => ['PUT', `/v1/schedules/${target}`, { every_seconds: 3_600, job: { type: 'nobody' } }],
    patchSchedule: () => ['PATCH', `/v1/schedules/${target}`, { every_seconds: 7_200 }, any],
    pauseSchedule: () => schedule('pause', {}),
    resumeSchedule: () => schedule('resume', {}),
    triggerSchedule: () => schedule('trigger'),
    deleteSchedule: () => ['DELETE', `/v1/schedules/${target}`, undefined, any],
    putQueue: () => ['PUT', `/v1/queues/${target}`, { max_depth: 10 }],
    patchQueue: () => ['PATCH', `/v1/queues/${target}`, { max_depth: 20 }, any],
    pauseQueue: () => queue('pause', {}),
    drainQueue: () => queue('drain', {}),
    resumeQueue: () => queue('resume', {}),
    deleteQueue: () => ['DELETE', `/v1/queues/${target}`, undefined, any],
    redriveDeadLetter: async () => ['POST', `/v1/dead-letters/${await letter()}/redrive`, {}],
    discardDeadLetter: async () => ['POST', `/v1/dead-letters/${await letter()}/discard`, {}],
    redriveMany: () => ['POST', '/v1/dead-letters/redrive', { filter: { queue: target } }],
    rerouteQueue: () => queue('reroute', { to: 'elsewhere', filter: { types: ['nobody'] } }),
    resumeOperation: async () => ['POST', `/v1/operations/${await paused()}/resume`],
    cancelOperation: async () => ['POST', `/v1/operations/${await paused()}/cancel`],
    undoOperation: async () => ['POST', `/v1/operations/${await held()}/undo`],
    proposeAction: () => ['POST', '/v1/admin/actions', { action: 'queue.purge', target: 'elsewhere' }],
    withdrawAction: async () => ['DELETE', `/v1/admin/actions/${(await action()).id}`],
    confirmAction: async () => {
      const { id, confirm_phrase } = await action();
      return ['POST', `/v1/admin/actions/${id}/confirm`, { phrase: confirm_phrase }];
    },
  };

  test('is known by Errand-Actor and is asked below; all others are calls about single jobs, of workers, or keep nothing', () => {
    const others = mutating.filter((one) => !takesActor(one)).map(({ object }) => object.operationId);
    const ofCallers = ['submitJob', 'submitRaw', 'submitBatch', 'cancelJob', 'patchJob', 'retryJob'];
    const ofWorkers = [
      ...['leaseJobs', 'reportCheckpoint', 'reportProgress', 'snoozeLease'],
      ...['heartbeatLease', 'heartbeatLeases', 'completeLease', 'completeLeases'],
      ...['failLease', 'failLeases', 'releaseLease', 'releaseLeases'],
    ];
    const keepNothing = ['validateJob', 'previewSchedule'];
    assert.deepEqual(others.sort(), [...ofCallers, ...ofWorkers, ...keepNothing].sort());
    const routes = mutating.filter(takesActor).map(({ object }) => object.operationId);
    assert.deepEqual(Object.keys(asks).sort(), routes.sort());
  });

  test('leaves a row that names who called it, and where no row can be written it does nothing', async () => {
    await db.many({ text: refusing });
    await post('/v1/jobs', { queue: 'elsewhere', type: 'nobody' });
    for (const [name, prepare] of Object.entries(asks)) {
      const [method, path, body, headers = {}] = await prepare();
      await until(async () => (await db.one(underWay)).n === 0);
      const before = await db.one(everything);
      const refused = await call(method, path, body, { ...headers, 'errand-actor': 'refused' });
      assert.ok(refused.status >= 500, `${name} without its row is ${refused.status}`);
      assert.deepEqual(await db.one(everything), before, `${name} without its row does nothing`);
      const done = await call(method, path, body, { ...headers, 'errand-actor': name });
      assert.ok(done.status < 300, `${name}: ${JSON.stringify(done.json)}`);
      const { items } = (await get(`/v1/audit?actor=${name}`)).json;
      assert.ok(items.length >= 1, `${name} leaves a row`);
    }
  });
});

const refusing = `
create trigger audit_refused before insert on errand.audit for each row when (new.actor = 'refused')
execute function errand.refuse_change()`;

/** Operations whose next step is due soon. */
const underWay = sql<{ n: number }>`
select count(*)::int n from errand.operation where next_at < errand.now() + interval '5 s'`;

/** All that a lever can change, as text. */
const everything = sql<Record<string, string>>`
select (select string_agg(t::text, ' ' order by name) from errand.queue t) queues,
  (select string_agg(t::text, ' ' order by queue, type) from errand.type_pause t) pauses,
  (select string_agg(t::text, ' ') from errand.lever_turn t) turns,
  (select string_agg(t::text, ' ' order by id) from errand.schedule t) schedules,
  (select string_agg(t::text, ' ' order by id) from errand.operation t) operations,
  (select string_agg(t::text, ' ' order by id) from errand.action t) actions,
  (select string_agg(t::text, ' ' order by job_id) from errand.dead_letter t) letters,
  (select string_agg(t::text, ' ' order by job_id) from errand.successor t) repeats,
  (select count(*)::text from errand.job) jobs`;
