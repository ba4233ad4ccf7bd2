// Every way to ask, in every mode a queue can have, over real sockets: the decision table of docs/contract.md, Refused up
// front. What is refused leaves nothing behind.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import pg from 'pg';
import { defineHandler } from '../../src/errand.ts';
import { calling } from '../support/call.ts';
import { startErrand, type TestErrand } from '../support/errand.ts';
import { type Header, post } from '../support/serve.ts';
import { until } from '../support/until.ts';

let errand: TestErrand;
let client: pg.Client;
const call = calling(() => errand.url);

before(async () => {
  errand = await startErrand({
    handlers: [defineHandler({ type: 'quick', run: () => 1 })],
    env: { ERRAND_WAIT_DEFAULT_SECONDS: '4' },
  });
  client = new pg.Client({ connectionString: errand.databaseUrl });
  await client.connect();
});

after(async () => {
  await client.end();
  await errand.stop();
});

const asks = {
  nothing: [],
  '202-accepted': [['Expect', '202-accepted']],
  'respond-async': [['Prefer', 'respond-async']],
  'wait=1': [['Prefer', 'wait=1']],
  'respond-async, wait=1': [['Prefer', 'respond-async, wait=1']],
  '200-ok': [['Expect', '200-ok']],
  '201-created': [['Errand-Expect', '201-created']],
  '204-no-content': [
    ['Expect', '204-no-content'],
    ['Prefer', 'wait=3'],
  ],
} as const satisfies Record<string, readonly Header[]>;

type Ask = keyof typeof asks;

/** What is answered: a status, and the mode or, of a refusal, its code and reason. */
const table: Readonly<
  Record<string, readonly [settings: object, levers: readonly [string, object][], Record<Ask, string>]>
> = {
  'nothing set': [
    {},
    [],
    {
      nothing: '202 async;expect=none',
      '202-accepted': '202 async;expect="202-accepted"',
      'respond-async': '202 async;expect=none',
      'wait=1': '200 soft;wait=1',
      'respond-async, wait=1': '200 soft;wait=1',
      '200-ok': '200 sync;expect="200-ok";wait=4',
      '201-created': '201 sync;expect="201-created";wait=4',
      '204-no-content': '204 sync;expect="204-no-content";wait=3',
    },
  ],
  'a wait of its own': [
    { default_wait_seconds: 2 },
    [],
    {
      nothing: '202 async;expect=none',
      '202-accepted': '202 async;expect="202-accepted"',
      'respond-async': '202 async;expect=none',
      'wait=1': '200 soft;wait=1',
      'respond-async, wait=1': '200 soft;wait=1',
      '200-ok': '200 sync;expect="200-ok";wait=2',
      '201-created': '201 sync;expect="201-created";wait=2',
      '204-no-content': '204 sync;expect="204-no-content";wait=3',
    },
  ],
  async_only: [
    { sync: 'async_only' },
    [],
    {
      nothing: '202 async;expect=none',
      '202-accepted': '202 async;expect="202-accepted"',
      'respond-async': '202 async;expect=none',
      'wait=1': '202 async;expect=none',
      'respond-async, wait=1': '202 async;expect=none',
      '200-ok': '417 queue_async_only',
      '201-created': '417 queue_async_only',
      '204-no-content': '417 queue_async_only',
    },
  ],
  sync_only: [
    { sync: 'sync_only' },
    [],
    {
      nothing: '417 queue_sync_only',
      '202-accepted': '417 queue_sync_only',
      'respond-async': '417 queue_sync_only',
      'wait=1': '200 soft;wait=1',
      'respond-async, wait=1': '200 soft;wait=1',
      '200-ok': '200 sync;expect="200-ok";wait=4',
      '201-created': '201 sync;expect="201-created";wait=4',
      '204-no-content': '204 sync;expect="204-no-content";wait=3',
    },
  ],
  paused: [
    {},
    [['pause', {}]],
    {
      nothing: '202 async;expect=none',
      '202-accepted': '202 async;expect="202-accepted"',
      'respond-async': '202 async;expect=none',
      'wait=1': '202 soft;wait=1',
      'respond-async, wait=1': '202 soft;wait=1',
      '200-ok': '417 queue_paused',
      '201-created': '417 queue_paused',
      '204-no-content': '417 queue_paused',
    },
  ],
  'the type paused': [
    {},
    [['pause', { types: ['quick'] }]],
    {
      nothing: '202 async;expect=none',
      '202-accepted': '202 async;expect="202-accepted"',
      'respond-async': '202 async;expect=none',
      'wait=1': '202 soft;wait=1',
      'respond-async, wait=1': '202 soft;wait=1',
      '200-ok': '417 queue_paused',
      '201-created': '417 queue_paused',
      '204-no-content': '417 queue_paused',
    },
  ],
  'another type paused': [
    {},
    [['pause', { types: ['other'] }]],
    {
      nothing: '202 async;expect=none',
      '202-accepted': '202 async;expect="202-accepted"',
      'respond-async': '202 async;expect=none',
      'wait=1': '200 soft;wait=1',
      'respond-async, wait=1': '200 soft;wait=1',
      '200-ok': '200 sync;expect="200-ok";wait=4',
      '201-created': '201 sync;expect="201-created";wait=4',
      '204-no-content': '204 sync;expect="204-no-content";wait=3',
    },
  ],
  draining: [
    { sync: 'sync_only' },
    [
      ['pause', {}],
      ['drain', {}],
    ],
    {
      nothing: '409 queue-draining',
      '202-accepted': '409 queue-draining',
      'respond-async': '409 queue-draining',
      'wait=1': '409 queue-draining',
      'respond-async, wait=1': '409 queue-draining',
      '200-ok': '417 queue_draining',
      '201-created': '417 queue_draining',
      '204-no-content': '417 queue_draining',
    },
  ],
  'a key required': [
    { require_idempotency_key: true },
    [],
    {
      nothing: '400 idempotency-key-missing',
      '202-accepted': '400 idempotency-key-missing',
      'respond-async': '400 idempotency-key-missing',
      'wait=1': '400 idempotency-key-missing',
      'respond-async, wait=1': '400 idempotency-key-missing',
      '200-ok': '400 idempotency-key-missing',
      '201-created': '400 idempotency-key-missing',
      '204-no-content': '400 idempotency-key-missing',
    },
  ],
  'an outcome declared': [
    { types: { quick: { outcome: 'result' } } },
    [],
    {
      nothing: '202 async;expect=none',
      '202-accepted': '202 async;expect="202-accepted"',
      'respond-async': '202 async;expect=none',
      'wait=1': '200 soft;wait=1',
      'respond-async, wait=1': '200 soft;wait=1',
      '200-ok': '200 sync;expect="200-ok";wait=4',
      '201-created': '417 outcome_mismatch',
      '204-no-content': '417 outcome_mismatch',
    },
  ],
};

let turn = 0;

for (const [mode, [settings, levers, answers]] of Object.entries(table)) {
  test(`a queue with ${mode} answers every way to ask as the table says, by both routes and in the report`, async () => {
    const queue = `modes-${turn++}`;
    assert.equal((await call('PUT', `/v1/queues/${queue}`, settings)).status, 201);
    for (const [lever, body] of levers) {
      assert.ok((await call.post(`/v1/queues/${queue}/${lever}`, body)).json.changed);
    }
    const port = Number(new URL(errand.url).port);
    for (const [ask, headers] of Object.entries(asks)) {
      const expected = answers[ask as Ask];
      const isRefused = /^4/.test(expected);
      const before = await stored(queue);
      const report = await post(port, '/v1/jobs/validate', { queue, type: 'quick' }, headers);
      assert.equal(
        reported(JSON.parse(report.body)),
        isRefused ? expected : expected.slice(4),
        `${ask}, report`,
      );
      const json = await post(port, '/v1/jobs', { queue, type: 'quick' }, headers);
      const raw = await post(port, `/v1/queues/${queue}/jobs`, '1', [...headers, ['Errand-Type', 'quick']]);
      for (const [how, answer] of [
        ['json', json],
        ['raw', raw],
      ] as const) {
        assert.equal(toldBy(answer), expected, `${ask}, ${how}: ${answer.body}`);
        if (answer.status === 409) assert.match(answer.headers['retry-after'] ?? '', /^[1-9]\d*$/);
        if (answer.status === 417) assert.equal(answer.headers['errand-mode'], 'refused');
      }
      assert.equal((await stored(queue)) - before, isRefused ? 0 : 2, `${ask}: jobs that were stored`);
    }
  });
}

async function stored(queue: string): Promise<number> {
  const { rows } = await client.query<{ n: number }>(
    `select count(*)::int n from errand.job j join errand.lane l on l.id = j.lane where l.queue = $1`,
    [queue],
  );
  return rows[0]?.n ?? 0;
}

function toldBy({
  status,
  headers,
  body,
}: {
  status: number;
  headers: Record<string, string>;
  body: string;
}): string {
  if (status < 400) return `${status} ${headers['errand-mode']}`;
  const { reason, code } = JSON.parse(body);
  return `${status} ${reason ?? code}`;
}

interface Report {
  accepted: boolean;
  mode: string | null;
  refusal: { status: number; reason: string | null; code: string } | null;
}

function reported({ accepted, mode, refusal }: Report): string {
  assert.equal(accepted, refusal === null);
  return refusal === null ? String(mode) : `${refusal.status} ${refusal.reason ?? refusal.code}`;
}

test('a pause that ends within the wait is no reason to refuse a demand', async () => {
  await call('PUT', '/v1/queues/soon', {});
  await call.post('/v1/queues/soon/pause', { until: new Date(Date.now() + 1_000).toISOString() });
  const demand = { 'errand-expect': '200-ok', prefer: 'wait=10' };
  const answer = await call.post('/v1/jobs', { queue: 'soon', type: 'quick' }, demand);
  assert.equal(answer.status, 200, JSON.stringify(answer.json));
});

test('a demand that the present rates say will come late is refused where the queue wants that, from the first one on', async () => {
  await call('PUT', '/v1/queues/slow', { refuse_late_waits: true });
  await call.post('/v1/jobs', { queue: 'slow', type: 'unserved' });
  // Of ten minutes' work 30 s are done.
  await client.query(
    `insert into errand.tally (lane, slot, process, started, queued)
     select id, errand.now() - interval '30 s', 999, 60, 600 from errand.lane where queue = 'slow'`,
  );
  const ask = async (seconds: number, path = '/v1/jobs') => {
    const demand = { 'errand-expect': '200-ok', prefer: `wait=${seconds}` };
    return call.post(path, { queue: 'slow', type: 'quick' }, demand);
  };
  const refused = await ask(4);
  assert.equal(refused.status, 417);
  assert.equal(refused.json.reason, 'estimate_exceeds_wait');
  assert.match(refused.json.detail, /ends in 3\d\d s, after the wait of 4 s/);
  assert.equal(await stored('slow'), 1);
  const { refusal } = (await ask(4, '/v1/jobs/validate')).json as Report;
  assert.deepEqual([refusal?.status, refusal?.reason], [417, 'estimate_exceeds_wait']);
  await call('PATCH', '/v1/queues/slow', { refuse_late_waits: false }, { 'if-match': '*' });
  assert.equal((await ask(4)).status, 200);
});

test('a queue whose oldest job is too old takes only what is critical, until that is well below the limit', async () => {
  const limit = { max_oldest_age_seconds: 60, critical_priority: 1 };
  await call('PUT', '/v1/queues/aged', limit);
  const submit = (priority: number, path = '/v1/jobs') =>
    call.post(path, { queue: 'aged', type: 'unserved', priority });
  const olderBy = (seconds: number) =>
    client.query(
      `update errand.block set at = at - $1::int * interval '1 s'
       where lane = (select id from errand.lane where queue = 'aged')`,
      [seconds],
    );
  assert.equal((await submit(5)).status, 202);
  await olderBy(70);
  const refused = await until(async () => {
    const answer = await submit(5);
    return answer.status === 503 ? answer : null;
  });
  assert.deepEqual([refused.json.code, refused.json.reason], ['queue-saturated', 'max_oldest_age_seconds']);
  assert.match(refused.json.detail, /queue "aged" holds a ready job that is 7\d s old of at most 60 s/);
  // Nothing goes out, so nobody knows when: a minute, and a little that spreads who returns.
  const seconds = Number(refused.headers.get('retry-after'));
  assert.ok(seconds >= 60 && seconds <= 66, `${seconds} s`);
  const { refusal } = (await submit(5, '/v1/jobs/validate')).json as Report;
  assert.deepEqual([refusal?.status, refusal?.reason], [503, 'max_oldest_age_seconds']);
  assert.equal((await submit(1)).status, 202);
  // Below the limit, and above four fifths of it: still closed.
  await olderBy(-17);
  const age = await ageBelow('aged', 58_000);
  assert.ok(age > 48_000, `${age} ms`);
  assert.equal((await submit(5)).status, 503);
  await olderBy(-20);
  await ageBelow('aged', 48_000);
  assert.equal((await submit(5)).status, 202);
});

/** The age of the oldest ready job of a queue, once it is told to be less than so many ms. */
async function ageBelow(queue: string, most_ms: number): Promise<number> {
  return until(async () => {
    const { oldest_age_ms } = (await call.get(`/v1/queues/${queue}/stats`)).json;
    return oldest_age_ms < most_ms ? oldest_age_ms : null;
  });
}

test('what a key names already is not refused, whatever was set since', async () => {
  const body = { queue: 'kept', type: 'quick' };
  const key = { 'idempotency-key': 'kept-1' };
  const first = await call.post('/v1/jobs', body, { ...key, 'errand-expect': '200-ok' });
  assert.equal(first.status, 200);
  await call.post('/v1/queues/kept/drain');
  for (const [headers, status] of [
    [{}, 202],
    [{ 'errand-expect': '200-ok' }, 200],
  ] as const) {
    const again = await call.post('/v1/jobs', body, { ...key, ...headers });
    assert.equal(again.status, status, JSON.stringify(again.json));
    assert.equal(again.headers.get('idempotency-replayed'), 'true');
  }
  const other = await call.post('/v1/jobs', { ...body, payload: 1 }, key);
  assert.equal(other.json.code, 'idempotency-key-reused');
  assert.equal((await call.post('/v1/jobs', body, { 'idempotency-key': 'kept-2' })).status, 409);
});

test('an atomic batch is refused by one queue, another tells of each job; nothing that is refused is stored', async () => {
  await call('PUT', '/v1/queues/shut', {});
  await call.post('/v1/queues/shut/drain', { deadline: '2999-01-01T00:00:00Z' });
  await call('PUT', '/v1/queues/waits', { sync: 'sync_only' });
  const jobs = ['open', 'shut', 'waits'].map((queue) => ({ queue, type: 'quick' }));
  const whole = await call.post('/v1/jobs/batch', { jobs });
  assert.equal(whole.status, 409);
  assert.equal(whole.json.code, 'queue-draining');
  assert.equal(whole.json.deadline, '2999-01-01T00:00:00.000Z');
  assert.equal(whole.headers.get('retry-after'), '3600');
  assert.deepEqual(
    whole.json.errors.map(({ pointer, code }: Record<string, string>) => `${pointer} ${code}`),
    ['#/jobs/1 queue-draining', '#/jobs/2 expectation-impossible'],
  );
  assert.equal(await stored('open'), 0);
  const each = await call.post('/v1/jobs/batch', { jobs, atomic: false });
  assert.deepEqual(
    each.json.items.map(({ status }: { status: number }) => status),
    [202, 409, 417],
  );
  assert.equal(await stored('open'), 1);
  assert.equal(await stored('shut'), 0);
});

test('jobs come into a drained queue by no other door: not by a repeat, a move or a schedule fired by hand', async () => {
  const { json: ended } = await call.post('/v1/jobs', { queue: 'doors', type: 'nobody', delay_seconds: 600 });
  await call.post(`/v1/jobs/${ended.id}/cancel`);
  const { json: elsewhere } = await call.post('/v1/jobs', { queue: 'elsewhere', type: 'nobody' });
  await call('PUT', '/v1/schedules/by-hand', { cron: '@yearly', job: { queue: 'doors', type: 'nobody' } });
  await call.post('/v1/queues/doors/drain');
  const repeat = await call.post(`/v1/jobs/${ended.id}/retry`);
  const move = await call('PATCH', `/v1/jobs/${elsewhere.id}`, { queue: 'doors' });
  const fired = await call.post('/v1/schedules/by-hand/trigger');
  assert.deepEqual(
    [repeat, move, fired].map(({ json }) => json.code),
    Array(3).fill('queue-draining'),
  );
  await call.post('/v1/queues/doors/resume');
  const repeated = await call.post(`/v1/jobs/${ended.id}/retry`);
  assert.equal(repeated.status, 202);
  await call.post('/v1/queues/doors/drain');
  const again = await call.post(`/v1/jobs/${ended.id}/retry`);
  assert.equal(again.json.id, repeated.json.id, 'a repeat that was made is told of');
});
