// What comes into a queue besides submits: names nobody made, where that is refused, and slots of schedules, also during a drain.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import pg from 'pg';
import { calling } from '../support/call.ts';
import { startErrand } from '../support/errand.ts';
import { until } from '../support/until.ts';

const errand = await startErrand({ env: { ERRAND_STRICT_QUEUES: 'true', ERRAND_TERM_SECONDS: '2' } });
after(() => errand.stop());
const call = calling(() => errand.url);

test('where queues are strict, a job for a queue that nobody made is refused, by each door in its way', async () => {
  const unknown = await call.post('/v1/jobs', { queue: 'typo', type: 'a' });
  assert.equal(unknown.status, 422);
  assert.equal(unknown.json.errors[0].pointer, '#/queue');
  assert.match(unknown.json.detail, /PUT \/v1\/queues\/typo/);
  assert.equal((await call.post('/v1/queues/typo/jobs', '1')).status, 404);
  const batch = await call.post('/v1/jobs/batch', { jobs: [{ queue: 'typo', type: 'a' }] });
  assert.equal(batch.json.errors[0].pointer, '#/jobs/0/queue');
  const { json: report } = await call.post('/v1/jobs/validate', { queue: 'typo', type: 'a' });
  assert.deepEqual([report.accepted, report.refusal.status], [false, 422]);
  const { headers } = await call('PUT', '/v1/queues/typo', {});
  assert.equal((await call.post('/v1/jobs', { queue: 'typo', type: 'a', delay_seconds: 60 })).status, 202);
  const { items } = (await call.get('/v1/jobs?queue=typo')).json;
  await call.post(`/v1/jobs/${items[0].id}/cancel`);
  const gone = { 'if-match': headers.get('etag') as string };
  assert.equal((await call('DELETE', '/v1/queues/typo', undefined, gone)).status, 204);
  assert.equal((await call.post('/v1/jobs', { queue: 'typo', type: 'a' })).status, 422);
});

test('where queues are strict, slots do not make a queue: they stay due and are told of until somebody makes it', async () => {
  const failed = errand.next('schedule.failed', ({ schedule }) => schedule === 'early');
  const job = { queue: 'misspelt', type: 'a' };
  assert.equal((await call('PUT', '/v1/schedules/early', { every_seconds: 1, job })).status, 201);
  assert.match(String((await failed).error), /there is no queue "misspelt" here; make it by PUT/);
  assert.equal((await call.get('/v1/queues/misspelt')).status, 404);
  assert.equal((await call.post('/v1/jobs', job)).status, 422);
  assert.deepEqual((await call.get('/v1/schedules/early/runs')).json.items, []);
  const { json } = await call.post('/v1/queues/slots/reroute', { to: 'misspelt' });
  assert.equal(json.status, 404, 'nor is there a queue that could be rerouted');
  await call('PUT', '/v1/queues/misspelt', {});
  assert.equal(
    (await call.post('/v1/queues/misspelt/reroute', { to: 'nowhere' })).json.errors[0].pointer,
    '#/to',
  );
  const client = new pg.Client({ connectionString: errand.databaseUrl });
  await client.connect();
  // It is tried again after ten seconds, or as soon as it is said to be due.
  await client.query(`update errand.schedule set next_due = errand.now() where name = 'early'`);
  await client.end();
  const runs = await until(async () => {
    const { items } = (await call.get('/v1/schedules/early/runs')).json;
    return items.length > 0 && items;
  });
  assert.ok(runs.every(({ job_id }: { job_id: string | null }) => job_id !== null));
  await call('DELETE', '/v1/schedules/early', undefined, { 'if-match': '*' });
});

test('slots that fall due while their queue is drained wait for its end, and none is lost', async () => {
  await call('PUT', '/v1/queues/slots', {});
  await call.post('/v1/queues/slots/drain');
  await call('PUT', '/v1/schedules/tick', { every_seconds: 1, job: { queue: 'slots', type: 'a' } });
  // What is asked of callers is not asked of slots.
  await call('PUT', '/v1/queues/free', { sync: 'sync_only', require_idempotency_key: true });
  await call('PUT', '/v1/schedules/tock', { every_seconds: 1, job: { queue: 'free', type: 'a' } });
  const runs = async (name: string) => (await call.get(`/v1/schedules/${name}/runs?limit=200`)).json.items;
  await until(async () => (await runs('tock')).length >= 3);
  assert.deepEqual(await runs('tick'), []);
  await call.post('/v1/queues/slots/resume');
  const seen = await until(async () => {
    const rows = await runs('tick');
    return rows.length >= 3 && rows;
  });
  const slots = seen.map(({ slot }: { slot: string }) => Date.parse(slot)).reverse();
  assert.deepEqual(
    slots,
    slots.map((_: number, n: number) => slots[0] + n * 1_000),
  );
  assert.ok(seen.every(({ job_id }: { job_id: string | null }) => job_id !== null));
});
