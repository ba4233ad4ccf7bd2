// The catalogue of problems is what callers meet: every code in it is brought about here, on a real service and a real
// database where that is possible, and carries the status and the members its entry says.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import pg from 'pg';
import { type ProblemSlug, problemSlugs, problems } from '../../src/domain/problems.ts';
import { defineHandler } from '../../src/errand.ts';
import { type Called, calling } from '../support/call.ts';
import { startErrand, type TestErrand } from '../support/errand.ts';
import { type Header, problemOf, send, sendBytes, serve, type WireAnswer } from '../support/serve.ts';

/** What was answered, however it was asked. */
interface Refused {
  status: number;
  code: string;
  retryAfter: string | undefined;
}

let errand: TestErrand;
let client: pg.Client;
const met = new Set<string>();

before(async () => {
  errand = await startErrand({
    env: { ERRAND_MAX_WAITERS: '1', ERRAND_MAX_STREAMS: '1', ERRAND_STATEMENT_TIMEOUT_SECONDS: '3' },
    handlers: [
      defineHandler({
        type: 'fails',
        run: () => {
          throw new Error('broken');
        },
      }),
    ],
  });
  client = new pg.Client({ connectionString: errand.databaseUrl });
  client.on('error', () => {});
  await client.connect();
});

after(async () => {
  await client.end();
  await errand.stop();
});

const call = calling(() => errand.url);
const { get, post } = call;
const port = () => Number(new URL(errand.url).port);

function ofCall({ status, headers, json }: Called): Refused {
  assert.equal(headers.get('content-type'), 'application/problem+json', JSON.stringify(json));
  return { status, code: json.code, retryAfter: headers.get('retry-after') ?? undefined };
}

function ofWire(answer: WireAnswer): Refused {
  return { status: answer.status, code: problemOf(answer).code, retryAfter: answer.headers['retry-after'] };
}

/** Checks a refusal against its entry. */
function expect(slug: ProblemSlug, refused: Refused): void {
  met.add(slug);
  assert.equal(refused.code, slug);
  if (slug !== 'job-failed') assert.equal(refused.status, problems[slug].status);
  if ('retry_after_seconds' in problems[slug]) assert.match(refused.retryAfter ?? '', /^[1-9]\d*$/, slug);
}

const wire = (path: string, headers: Header[], body: string | Buffer = '') =>
  send(port(), { method: 'POST', path, headers: [['Content-Type', 'application/json'], ...headers], body });

/** Runs `work` while nothing can be inserted. */
async function whileLocked(work: () => Promise<void>): Promise<void> {
  await client.query('begin; lock table errand.job in access exclusive mode');
  try {
    await work();
  } finally {
    await client.query('rollback');
  }
}

test('what is wrong with a request is told before anything is looked at', async () => {
  expect('malformed-json', ofCall(await post('/v1/jobs', '{')));
  expect('invalid-utf8', ofWire(await wire('/v1/jobs', [], Buffer.from([0x7b, 0xff, 0x7d]))));
  expect('duplicate-key', ofCall(await post('/v1/jobs', '{"type":"a","type":"b"}')));
  expect('payload-not-storable', ofCall(await post('/v1/jobs', '{"type":"a","tags":["\\u0000"]}')));
  expect('validation-failed', ofCall(await post('/v1/jobs', {})));
  expect('payload-too-large', ofCall(await post('/v1/jobs', { type: 'a', payload: 'x'.repeat(300_000) })));
  expect('unsupported-media-type', ofCall(await post('/v1/jobs', 'a', { 'content-type': 'text/plain' })));
  expect(
    'idempotency-key-malformed',
    ofCall(await post('/v1/jobs', { type: 'a' }, { 'idempotency-key': 'a b' })),
  );
  expect('cursor-invalid', ofCall(await get('/v1/jobs?cursor=nope')));
  expect('method-not-allowed', ofCall(await call('DELETE', '/v1/jobs')));
  expect('not-found', ofCall(await get('/v1/nothing')));
  const headers: [string, string][] = [['X-Long', 'x'.repeat(20_000)]];
  expect('headers-too-large', ofWire(await send(port(), { path: '/health', headers })));
  expect('uri-too-long', ofWire(await send(port(), { path: `/${'x'.repeat(20_000)}` })));
  expect('bad-header', ofWire(await sendBytes(port(), 'GET / HTTP/1.1\r\n\r\n')));
});

test('an expectation that cannot be met is refused, each in its own way', async () => {
  const submit = (expectation: string, more: Header[] = []) =>
    wire('/v1/jobs', [['Expect', expectation], ...more], '{"type":"nobody"}');
  expect('expectation-unknown', ofWire(await submit('418-teapot')));
  expect('expectation-conflict', ofWire(await submit('200-ok, 202-accepted')));
  expect(
    'expectation-impossible',
    ofWire(await send(port(), { path: '/health', headers: [['Expect', '200-ok']] })),
  );
  expect('expectation-timeout', ofWire(await submit('200-ok', [['Prefer', 'wait=1']])));
});

test('a job that is no success answers a caller who waited as what became of it', async () => {
  const now = { 'errand-expect': '200-ok', prefer: 'wait=10' };
  expect('job-failed', ofCall(await post('/v1/jobs', { type: 'fails', max_attempts: 1 }, now)));
  const expires_at = new Date(Date.now() + 300).toISOString();
  expect('job-expired', ofCall(await post('/v1/jobs', { type: 'nobody', expires_at }, now)));
  const submitted = errand.next('job.submitted', ({ type }) => type === 'cancelled');
  const waiting = post('/v1/jobs', { type: 'cancelled' }, now);
  await post(`/v1/jobs/${(await submitted).job_id}/cancel`);
  expect('job-cancelled', ofCall(await waiting));
});

test('a job is told as it is where that does not allow what was asked', async () => {
  const { json: job } = await post('/v1/jobs', { type: 'nobody' });
  expect('result-not-ready', ofCall(await get(`/v1/jobs/${job.id}/result`)));
  const stale = { 'if-match': '"nope"' };
  expect('precondition-failed', ofCall(await post(`/v1/jobs/${job.id}/cancel`, undefined, stale)));
  const { leases } = (await post('/v1/leases', { types: ['nobody'] })).json;
  expect('job-state-conflict', ofCall(await post(`/v1/jobs/${job.id}/retry`)));
  const every = { every_seconds: 60, job: { type: 'nobody' } };
  await call('PUT', '/v1/schedules/every', every);
  const other = { ...every, every_seconds: 61 };
  expect('precondition-required', ofCall(await call('PUT', '/v1/schedules/every', other)));
  await call('PUT', '/v1/queues/careful', { require_idempotency_key: true });
  expect('idempotency-key-missing', ofCall(await post('/v1/jobs', { type: 'a', queue: 'careful' })));
  await post('/v1/queues/careful/drain');
  expect('queue-draining', ofCall(await post('/v1/jobs', { type: 'a', queue: 'careful' })));
  const { headers } = await get('/v1/queues/default');
  const tag = { 'if-match': headers.get('etag') as string };
  expect('queue-not-empty', ofCall(await call('DELETE', '/v1/queues/default', undefined, tag)));
  await post(`/v1/leases/${leases[0].id}/release`);
  expect('lease-lost', ofCall(await post(`/v1/leases/${leases[0].id}/complete`)));
  expect('not-acceptable', ofCall(await get(`/v1/jobs/${job.id}/events`, { accept: 'text/html' })));
});

test('the same key for another request, or for one that is still being stored, is refused', async () => {
  const key = { 'idempotency-key': 'once' };
  await post('/v1/jobs', { type: 'nobody' }, key);
  expect('idempotency-key-reused', ofCall(await post('/v1/jobs', { type: 'other' }, key)));
  await client.query(
    `begin; insert into errand.idem (tenant, route, key, job_id, print) values (0, 'POST /v1/jobs', 'two', 1, '')`,
  );
  const waiting = post('/v1/jobs', { type: 'nobody' }, { 'idempotency-key': 'two' });
  expect('idempotency-in-flight', ofCall(await waiting));
  await client.query('rollback');
});

test('a service that is full says so and when to come again', async () => {
  const { json: job } = await post('/v1/jobs', { type: 'nobody' });
  const gone = new AbortController();
  const stream = await fetch(`${errand.url}/v1/jobs/${job.id}/events`, {
    headers: { accept: 'text/event-stream' },
    signal: gone.signal,
  });
  await stream.body?.getReader().read();
  const second = await get(`/v1/jobs/${job.id}/events`, { accept: 'text/event-stream' });
  expect('stream-limit', ofCall(second));
  gone.abort();
  const submitted = errand.next('job.submitted');
  const waiting = post('/v1/jobs', { type: 'nobody' }, { 'errand-expect': '200-ok', prefer: 'wait=2' });
  await submitted;
  expect('sync-capacity', ofCall(await post('/v1/jobs', { type: 'a' }, { 'errand-expect': '200-ok' })));
  await waiting;
});

test('a database in trouble is told as such, and whether anything may have been stored', async () => {
  await whileLocked(async () => {
    expect('database-unavailable', ofCall(await post('/v1/jobs', { type: 'nobody' })));
    const jobs = [{ type: 'nobody' }];
    const many = await Promise.all(Array.from({ length: 110 }, () => post('/v1/jobs/batch', { jobs })));
    expect('queue-saturated', ofCall(many.find(({ json }) => json.code === 'queue-saturated') as Called));
  });
  await whileLocked(async () => {
    const waiting = post('/v1/jobs', { type: 'nobody' });
    for (;;) {
      const { rows } = await client.query(
        `select pg_terminate_backend(pid) from pg_stat_activity
         where datname = current_database() and wait_event_type = 'Lock' and query like '%insert into errand.job%'`,
      );
      if (rows.length > 0) break;
    }
    expect('outcome-unknown', ofCall(await waiting));
  });
});

test('a key that is held refuses who asks for that', async () => {
  const job = { type: 'nobody', unique: { key: 'one', while: ['queued'], on_conflict: 'reject' } };
  await post('/v1/jobs', job);
  expect('job-not-unique', ofCall(await post('/v1/jobs', job)));
});

test('what is dangerous is refused until it is meant', async () => {
  const fill = () => post('/v1/jobs', { queue: 'bad', type: 'nobody' });
  const propose = async () =>
    (await post('/v1/admin/actions', { action: 'queue.purge', target: 'bad' })).json;
  const confirm = ({ id }: { id: string }, phrase: string) =>
    post(`/v1/admin/actions/${id}/confirm`, { phrase });
  await fill();
  const action = await propose();
  expect('confirmation-mismatch', ofCall(await confirm(action, 'purge all')));
  await fill();
  expect('impact-changed', ofCall(await confirm(action, action.confirm_phrase)));
  await call('DELETE', `/v1/admin/actions/${action.id}`);
  expect('action-expired', ofCall(await confirm(action, action.confirm_phrase)));
  const { json: reroute } = await post('/v1/queues/bad/reroute', { to: 'good' });
  expect('operation-state-conflict', ofCall(await post(`/v1/operations/${reroute.id}/undo`)));
});

test('a job that was dropped with its partition is gone, and so is its result', async () => {
  const { json: job } = await post('/v1/jobs', { type: 'nobody' });
  await client.query('select errand.add_partition(20000000, 30000000)');
  await client.query('drop table errand.job_0, errand.outcome_0');
  await client.query(`select setval('errand.job_id_seq', 10000000)`);
  expect('job-archived', ofCall(await get(`/v1/jobs/${job.id}`)));
  expect('result-expired', ofCall(await get(`/v1/jobs/${job.id}/result`)));
});

test('a fault of our own, a request that never ends and a server that stops', async () => {
  const served = await serve({
    limits: { request_timeout_ms: 200, headers_timeout_ms: 200, check_interval_ms: 50 },
  });
  served.jobs.fault = new Error('a bug');
  expect('internal', ofWire(await send(served.port, { path: '/v1/jobs/1001' })));
  expect('request-timeout', ofWire(await sendBytes(served.port, 'GET / HTTP/1.1\r\nHost: a\r\n')));
  const submitted = errand.next('job.submitted');
  const waiting = post('/v1/jobs', { type: 'nobody' }, { 'errand-expect': '200-ok', prefer: 'wait=20' });
  await submitted;
  await Promise.all([waiting.then((answer) => expect('draining', ofCall(answer))), errand.stop()]);
});

test('no code of the catalogue was left out', () => {
  assert.deepEqual(
    problemSlugs().filter((slug) => !met.has(slug)),
    [],
  );
});
