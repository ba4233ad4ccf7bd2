// The book of what operators do: written with the lever or not at all, never changed, read page by page.
import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import { audit } from '../../src/store/audit.ts';
import type { Pool } from '../../src/store/db.ts';
import { calling } from '../support/call.ts';
import { startErrand, type TestErrand } from '../support/errand.ts';
import { poolOn } from '../support/postgres.ts';

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
