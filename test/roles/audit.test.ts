// The book of what operators do: written with the lever or not at all, never changed, read page by page.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { after, before, beforeEach, describe, test } from 'node:test';
import { audit } from '../../src/store/audit.ts';
import type { Pool } from '../../src/store/db.ts';
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

  test('is known by Errand-Actor; all others are calls about single jobs, of workers, or keep nothing', () => {
    const others = mutating.filter((one) => !takesActor(one)).map(({ object }) => object.operationId);
    const ofCallers = /^(submit|cancelJob$|patchJob$|retryJob$|validateJob$|previewSchedule$)/;
    const ofWorkers = /(lease|heartbeat|complete|fail|release|report)/i;
    assert.deepEqual(
      others.filter((name) => !ofCallers.test(name) && !ofWorkers.test(name)),
      [],
    );
  });

  test('leaves a row that names who called it', async () => {
    const every = { every_seconds: 60, job: { type: 'nobody' } };
    const letter = async () => {
      await post('/v1/jobs', { queue: target, type: 'dies', max_attempts: 1 });
      // An operation may hold the block for a moment.
      const asked = await post('/v1/leases', { queues: [target], types: ['dies'] }, { prefer: 'wait=5' });
      const { leases } = asked.json;
      await post(`/v1/leases/${leases[0].id}/fail`, { class: 'permanent' });
      return leases[0].job.id;
    };
    const any = { 'if-match': '*' };
    const operation = async (who: object, filter: object = { tags: ['none'] }) =>
      (await post(`/v1/queues/${target}/reroute`, { to: 'elsewhere', filter }, who as Record<string, string>))
        .json.id;
    const action = async (who: object = {}) => {
      const wish = { action: 'queue.purge', target };
      return (await post('/v1/admin/actions', wish, who as Record<string, string>)).json;
    };
    const paused = async () => {
      await Promise.all([letter(), letter()]);
      const { json } = await post('/v1/dead-letters/redrive', { filter: { queue: target }, canary: 1 });
      await until(async () => (await get(`/v1/operations/${json.id}`)).json.state === 'paused');
      return json.id;
    };
    const held = async () => {
      await post('/v1/jobs', { queue: target, type: 'nobody' });
      const { id, confirm_phrase } = await action();
      return (await post(`/v1/admin/actions/${id}/confirm`, { phrase: confirm_phrase })).json.id;
    };
    const calls: Record<string, (who: Record<string, string>) => Promise<unknown>> = {
      putSchedule: (who) => call('PUT', `/v1/schedules/${target}`, every, who),
      patchSchedule: (who) =>
        call('PATCH', `/v1/schedules/${target}`, { every_seconds: 90 }, { ...who, ...any }),
      pauseSchedule: (who) => post(`/v1/schedules/${target}/pause`, {}, who),
      resumeSchedule: (who) => post(`/v1/schedules/${target}/resume`, {}, who),
      triggerSchedule: (who) => post(`/v1/schedules/${target}/trigger`, {}, who),
      deleteSchedule: (who) => call('DELETE', `/v1/schedules/${target}`, undefined, { ...who, ...any }),
      putQueue: (who) => call('PUT', `/v1/queues/${target}-set`, { max_depth: 10 }, who),
      patchQueue: (who) => call('PATCH', `/v1/queues/${target}-set`, { max_depth: 20 }, { ...who, ...any }),
      pauseQueue: (who) => post(`/v1/queues/${target}-set/pause`, {}, who),
      resumeQueue: (who) => post(`/v1/queues/${target}-set/resume`, {}, who),
      drainQueue: (who) => post(`/v1/queues/${target}-set/drain`, {}, who),
      deleteQueue: (who) => call('DELETE', `/v1/queues/${target}-set`, undefined, { ...who, ...any }),
      redriveDeadLetter: async (who) => post(`/v1/dead-letters/${await letter()}/redrive`, {}, who),
      discardDeadLetter: async (who) => post(`/v1/dead-letters/${await letter()}/discard`, {}, who),
      redriveMany: (who) => post('/v1/dead-letters/redrive', { filter: { queue: target } }, who),
      rerouteQueue: (who) => operation(who),
      resumeOperation: async (who) => post(`/v1/operations/${await paused()}/resume`, {}, who),
      cancelOperation: async (who) => post(`/v1/operations/${await paused()}/cancel`, {}, who),
      undoOperation: async (who) => post(`/v1/operations/${await held()}/undo`, {}, who),
      proposeAction: (who) => action(who),
      withdrawAction: async (who) =>
        call('DELETE', `/v1/admin/actions/${(await action()).id}`, undefined, who),
      confirmAction: async (who) => {
        const { id, confirm_phrase } = await action();
        return post(`/v1/admin/actions/${id}/confirm`, { phrase: confirm_phrase }, who);
      },
    };
    const routes = mutating.filter(takesActor).map(({ object }) => object.operationId);
    assert.deepEqual(Object.keys(calls).sort(), routes.sort());
    for (const [name, pull] of Object.entries(calls)) {
      await pull({ 'errand-actor': name });
      const { items } = (await get(`/v1/audit?actor=${name}`)).json;
      assert.ok(items.length >= 1, `${name} leaves a row`);
    }
  });
});
