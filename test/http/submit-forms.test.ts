// The other ways to submit: many at once, a raw body, a dry run; over sockets, on a real database.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { request } from 'node:http';
import { text } from 'node:stream/consumers';
import { after, before, test } from 'node:test';
import { type Called, calling } from '../support/call.ts';
import { startErrand, type TestErrand } from '../support/errand.ts';

let errand: TestErrand;
before(async () => {
  errand = await startErrand({ env: { ERRAND_PRIVATE_TARGETS: 'none' } });
});
after(() => errand.stop());

const call = calling(() => errand.url);
const { post } = call;

const batch = (jobs: unknown[], more: object = {}, headers = {}) =>
  post('/v1/jobs/batch', { jobs, ...more }, headers);

/** Jobs of a type there are, leased to the last one. */
async function leaseAll(type: string): Promise<Called['json'][]> {
  return (await post('/v1/leases', { types: [type], limit: 1_000 })).json.leases;
}

test('a batch stores its jobs in order, with every option, and tells where to follow each', async () => {
  const { status, headers, json } = await post(
    '/v1/jobs/batch',
    '{"jobs":[{"type":"b1","payload":{"n":9007199254740993},"priority":3},' +
      '{"type":"b1","payload":null,"delay_seconds":60,"tags":["eu"]},{"type":"b2"}]}',
  );
  assert.equal(status, 202);
  assert.equal(headers.get('errand-mode'), 'async;expect=none');
  assert.deepEqual(
    json.jobs.map((job: { type: string; state: string; priority: number }) => [
      job.type,
      job.state,
      job.priority,
    ]),
    [
      ['b1', 'queued', 3],
      ['b1', 'scheduled', 5],
      ['b2', 'queued', 5],
    ],
  );
  for (const { id, location } of json.jobs) assert.equal(location, `/v1/jobs/${id}/status`);
  const raw = await fetch(`${errand.url}/v1/jobs/${json.jobs[0].id}?include=payload`);
  assert.match(await raw.text(), /"payload":\{"n":9007199254740993\}/, 'payloads stay byte for byte');
});

test('an atomic batch with one bad job stores none and points at it', async () => {
  const { status, json } = await batch([{ type: 'atomic' }, { type: 'atomic', priority: 12 }, { typo: 1 }]);
  assert.equal(status, 422);
  const pointers = json.errors.map((fault: { pointer: string }) => fault.pointer);
  assert.deepEqual(pointers, ['#/jobs/1/priority', '#/jobs/2/type', '#/jobs/2/typo']);
  assert.deepEqual(await leaseAll('atomic'), []);
});

test('a batch that is not atomic stores the good jobs and tells of each bad one', async () => {
  const target = { url: 'http://127.0.0.1:1/' };
  const jobs = [{ type: 'each' }, { type: 'each', priority: 12 }, { type: 'each', target }, { type: 'each' }];
  const { status, json } = await batch(jobs, { atomic: false });
  assert.equal(status, 207);
  assert.deepEqual(
    json.items.map((item: { index: number; status: number }) => [item.index, item.status]),
    [
      [0, 202],
      [1, 422],
      [2, 422],
      [3, 202],
    ],
  );
  assert.equal(json.items[1].problem.errors[0].pointer, '#/jobs/1/priority');
  assert.equal(json.items[2].problem.errors[0].pointer, '#/jobs/2/target/url');
  assert.equal((await leaseAll('each')).length, 2);
});

for (const atomic of [true, false]) {
  test(`a batch repeated with its key stores nothing twice, atomic ${atomic}`, async () => {
    const type = `repeat-${atomic}`;
    const key = { 'idempotency-key': `key-${type}` };
    const jobs = Array.from({ length: 20 }, (_, n) => ({ type, payload: n }));
    const answers = await Promise.all(Array.from({ length: 5 }, () => batch(jobs, { atomic }, key)));
    const lists = answers.map(({ json }) =>
      (json.jobs ?? json.items.map((item: { job: unknown }) => item.job)).map(
        (job: { id: string }) => job.id,
      ),
    );
    for (const list of lists) assert.deepEqual(list, lists[0]);
    assert.equal((await leaseAll(type)).length, 20);
    const other = await batch([{ type }, { type }], { atomic }, key);
    assert.deepEqual([other.status, other.json.code], [422, 'idempotency-key-reused']);
    assert.match(
      other.json.detail,
      new RegExp(`"${key['idempotency-key']}"`),
      'the key is named as it was sent',
    );
    assert.deepEqual(await leaseAll(type), [], 'nothing of another request is stored');
  });
}

test('a job of a batch may have a key of its own, and is found by it in another batch', async () => {
  const keyed = { type: 'own-key', payload: 1, idempotency_key: 'order-1' };
  const first = await batch([keyed, { type: 'own-key' }]);
  const second = await batch([{ type: 'own-key' }, keyed]);
  assert.equal(second.json.jobs[1].id, first.json.jobs[0].id);
  const twice = await batch([
    { ...keyed, idempotency_key: 'order-2' },
    { ...keyed, idempotency_key: 'order-2' },
  ]);
  assert.equal(twice.json.jobs[0].id, twice.json.jobs[1].id);
  const before = (await leaseAll('own-key')).length;
  assert.equal(before, 4);
  const reused = await batch([{ type: 'own-key' }, { ...keyed, payload: 2 }]);
  assert.equal(reused.status, 422);
  assert.equal(reused.json.errors[0].pointer, '#/jobs/1/idempotency_key');
  assert.equal((await leaseAll('own-key')).length, 0, 'nothing of the refused batch is stored');
});

test('one key is never two requests, whichever way they are submitted', async () => {
  const key = { 'idempotency-key': 'one-for-all' };
  const first = await post('/v1/jobs', { type: 'shared', payload: 1 }, key);
  assert.equal(first.status, 202);
  const others = [
    await post('/v1/queues/default/jobs', '1', { ...key, 'errand-type': 'shared' }),
    await batch([{ type: 'shared', payload: 1 }], {}, key),
    await batch([{ type: 'shared', payload: 1 }], { atomic: false }, key),
    await batch([{ type: 'shared', payload: 1, idempotency_key: 'one-for-all' }]),
  ];
  for (const { status, json } of others)
    assert.deepEqual([status, json.code], [422, 'idempotency-key-reused']);
  assert.equal((await leaseAll('shared')).length, 1);
});

test('a key of the call and keys of its jobs do not go together', async () => {
  const jobs = [{ type: 'both', idempotency_key: 'k1' }];
  for (const atomic of [true, false]) {
    const { json } = await batch(jobs, { atomic }, { 'idempotency-key': 'both' });
    const { errors } = atomic ? json : json.items[0].problem;
    assert.equal(errors[0].pointer, '#/jobs/0/idempotency_key');
  }
  assert.deepEqual(await leaseAll('both'), []);
});

test('a repeat without atomicity stores what was not stored, and only under the same bytes', async () => {
  const key = { 'idempotency-key': 'mend' };
  const bad = [{ type: 'mend', priority: 12 }, { type: 'mend' }, { type: 'mend' }];
  assert.equal((await batch(bad, { atomic: false }, key)).status, 207);
  assert.equal((await batch(bad, { atomic: false }, key)).status, 207);
  const mended = [{ type: 'mend', priority: 1 }, ...bad.slice(1)];
  assert.equal((await batch(mended, { atomic: false }, key)).json.code, 'idempotency-key-reused');
  assert.equal((await leaseAll('mend')).length, 2);
});

test('a batch takes 202-accepted and refuses any other expectation; it may be answered in short', async () => {
  const accepted = await batch(
    [{ type: 'modes' }],
    {},
    { 'errand-expect': '202-accepted', prefer: 'return=minimal' },
  );
  assert.equal(accepted.status, 202);
  assert.equal(accepted.headers.get('errand-mode'), 'async;expect="202-accepted"');
  assert.equal(accepted.headers.get('preference-applied'), 'return=minimal');
  assert.deepEqual(Object.keys(accepted.json.jobs[0]), ['id', 'location']);
  const refused = await batch([{ type: 'modes' }], {}, { 'errand-expect': '200-ok' });
  assert.equal(refused.json.code, 'expectation-impossible');
  assert.equal((await leaseAll('modes')).length, 1);
});

test('a batch has its limits: none, too many, too large, one payload too large', async () => {
  assert.equal((await batch([])).status, 422);
  const many = await batch(Array.from({ length: 1_001 }, () => ({ type: 'limits' })));
  assert.deepEqual([many.status, many.json.errors[0].pointer], [422, '#/jobs']);
  const large = await batch([{ type: 'limits' }, { type: 'limits', payload: 'x'.repeat(300 * 1024) }]);
  assert.deepEqual([large.status, large.json.errors[0].pointer], [413, '#/jobs/1/payload']);
  const huge = await post('/v1/jobs/batch', `{"jobs":[${' '.repeat(9 * 1024 * 1024)}]}`).catch(() => null);
  // The server closes while the client is still sending; what it answered may be lost with the connection.
  if (huge !== null) assert.equal(huge.status, 413);
  assert.equal((await batch([{ type: 'limits', payload: 'x'.repeat(200 * 1024) }])).status, 202);
});

test('a raw body is the payload byte for byte, whatever it is', async () => {
  const bytes = Buffer.from(Array.from({ length: 256 }, (_, n) => n));
  const bodies: [string, Buffer, string][] = [
    ['application/octet-stream', bytes, 'payload_base64'],
    ['image/png', Buffer.from([0x89, 0x50, 0xff]), 'payload_base64'],
    ['text/plain; charset=utf-8', Buffer.from('grüße\n'), 'payload'],
    ['text/plain', Buffer.from('with a nul \0 in it'), 'payload_base64'],
    ['application/xml', Buffer.from('<a/>'), 'payload'],
  ];
  for (const [type, body, member] of bodies) {
    const { status, headers } = await call('POST', '/v1/queues/raw/jobs', body, {
      'content-type': type,
      'errand-type': 'raw',
    });
    assert.equal(status, 202, type);
    const [lease] = await leaseAll('raw');
    assert.equal(lease.job.queue, 'raw');
    assert.equal(lease.job.content_type, type);
    const kept = lease.job[member];
    const back = Buffer.from(kept, member === 'payload' ? 'utf8' : 'base64');
    assert.equal(hash(back), hash(body), `${type} comes back in ${member}`);
    const record = await call.get(`${headers.get('content-location')}?include=payload`);
    assert.deepEqual([record.json[member], record.json.content_type], [kept, type]);
  }
});

const hash = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');

test('a raw body of JSON is a JSON payload, and none at all is null', async () => {
  const stored = await post('/v1/queues/raw/jobs', ' {"n": 9007199254740993} ', { 'errand-type': 'json' });
  assert.equal(stored.status, 202);
  const raw = await fetch(`${errand.url}${stored.headers.get('content-location')}?include=payload`);
  assert.match(await raw.text(), /"payload": \{"n": 9007199254740993\} \}/);
  for (const headers of [{}, { 'content-type': 'application/json' }]) {
    const none = await post('/v1/queues/raw/jobs', undefined, headers);
    assert.equal(none.status, 202);
    assert.equal(none.json.type, 'default');
    const record = await call.get(`/v1/jobs/${none.json.id}?include=payload`);
    assert.equal(record.json.payload, null);
  }
});

test('what is declared as JSON and is none is refused', async () => {
  const cases: [string | Buffer, number, string][] = [
    ['{"a":', 400, 'malformed-json'],
    ['\ufeff{}', 400, 'malformed-json'],
    ['[1] [2]', 400, 'malformed-json'],
    [Buffer.from([0x22, 0xff, 0x22]), 400, 'invalid-utf8'],
    ['['.repeat(100) + ']'.repeat(100), 400, 'malformed-json'],
  ];
  for (const [body, status, code] of cases) {
    const answer = await post('/v1/queues/raw/jobs', body);
    assert.deepEqual([answer.status, answer.json.code], [status, code]);
  }
});

test('the options of a raw job are headers, and a bad one is named', async () => {
  const good = await post('/v1/queues/raw/jobs', '1', {
    'errand-type': 'opts',
    'errand-priority': '2',
    'errand-delay': '60.5',
    'errand-max-attempts': '3',
    'errand-timeout': '7',
    'errand-tags': 'a, b',
    'errand-expires-at': '2099-01-02T03:04:05+01:00',
  });
  assert.equal(good.status, 202);
  const { type, priority, state, max_attempts, timeout_seconds, tags, expires_at } = good.json;
  assert.deepEqual(
    [type, priority, state, max_attempts, timeout_seconds, tags, expires_at],
    ['opts', 2, 'scheduled', 3, 7, ['a', 'b'], '2099-01-02T02:04:05.000Z'],
  );
  const bad: [string, string, string][] = [
    ['Errand-Priority', 'high', 'must be a number'],
    ['Errand-Priority', '10', 'must be at most 9'],
    ['Errand-Delay', '-1', 'must be a number'],
    ['Errand-Run-At', 'tomorrow', 'must be an RFC 3339 time with an offset, such as 2026-01-02T03:04:05Z'],
    ['Errand-Type', 'No Spaces', 'must be 1 to 63 of a-z 0-9 . _ - and begin with a letter or a digit'],
    ['Errand-Max-Attempts', '1.5', 'must be a whole number'],
    ['Errand-Tags', '', 'must have at least 1 characters'],
  ];
  for (const [header, value, what] of bad) {
    const answer = await post('/v1/queues/raw/jobs', '1', { [header]: value });
    assert.deepEqual([answer.status, answer.json.code], [400, 'bad-header'], header);
    assert.equal(answer.json.errors[0].pointer, `#/${header}`);
    assert.equal(answer.json.detail, `header ${header} ${what}`);
  }
});

test('an option header that was sent twice is refused as that; tags may be spread over headers', async () => {
  const { hostname, port } = new URL(errand.url);
  const send = async (header: string, values: string[]) => {
    const sent = request({
      ...{ hostname, port, method: 'POST', path: '/v1/queues/raw/jobs' },
      headers: { [header]: values, 'content-length': '0' },
    });
    const [answer] = await once(sent.end(), 'response');
    return { status: answer.statusCode, json: JSON.parse(await text(answer)) };
  };
  const twice = await send('Errand-Priority', ['1', '2']);
  assert.deepEqual([twice.status, twice.json.code], [400, 'bad-header']);
  assert.equal(twice.json.detail, 'header Errand-Priority was sent twice; send it once');
  const spread = await send('Errand-Tags', ['a', 'b']);
  assert.deepEqual([spread.status, spread.json.tags], [202, ['a', 'b']]);
});

test('a queue whose name cannot be one is 404 and says which names can', async () => {
  const answer = await post('/v1/queues/No%20Queue/jobs', '1');
  assert.equal(answer.status, 404);
  assert.match(answer.json.detail, /^the queue in the path is "No Queue"; it must be 1 to 63 of a-z /);
});

test('a header that no target may be sent is named, with the remedy', async () => {
  const target = { url: 'https://203.0.113.9/hook', headers: { Host: 'x', 'a b': 'x' } };
  const { status, json } = await post('/v1/jobs', { type: 'a', target });
  assert.equal(status, 422);
  assert.deepEqual(
    json.errors.map((fault: { pointer: string; detail: string }) => [fault.pointer, fault.detail]),
    [
      ['#/target/headers/Host', 'is set by errand or by the connection; leave it out'],
      ['#/target/headers/a%20b', 'must be 1 to 64 of A-Z a-z 0-9 _ - and begin with a letter'],
    ],
  );
});

test('a raw submit negotiates like any other and is idempotent with its headers', async () => {
  const sync = await post('/v1/queues/raw/jobs', '1', { 'errand-expect': '200-ok', prefer: 'wait=1' });
  assert.deepEqual([sync.status, sync.json.code, sync.json.executed], [417, 'expectation-timeout', false]);
  const key = { 'idempotency-key': 'raw-1', 'errand-type': 'idem' };
  const first = await post('/v1/queues/raw/jobs', '1', key);
  const again = await post('/v1/queues/raw/jobs', '1', key);
  assert.deepEqual([again.json.id, again.headers.get('idempotency-replayed')], [first.json.id, 'true']);
  const other = await post('/v1/queues/raw/jobs', '1', { ...key, 'errand-priority': '1' });
  assert.equal(other.json.code, 'idempotency-key-reused');
  const elsewhere = await post('/v1/queues/raw2/jobs', '1', key);
  assert.equal(elsewhere.json.code, 'idempotency-key-reused');
});

test('validate says what a job would be and when its attempts would come, and stores nothing', async () => {
  const backoff = { strategy: 'list', delays_seconds: [1, 10] };
  const { status, json } = await post('/v1/jobs/validate', {
    type: 'dry',
    max_attempts: 4,
    backoff,
    delay_seconds: 5,
  });
  assert.equal(status, 200);
  assert.deepEqual([json.job.type, json.job.state, 'id' in json.job], ['dry', 'scheduled', false]);
  assert.deepEqual(
    json.attempts.map((one: { after_seconds: object }) => one.after_seconds),
    [
      { min: 0, max: 0 },
      { min: 1, max: 1 },
      { min: 10, max: 10 },
      { min: 10, max: 10 },
    ],
  );
  const usual = await post('/v1/jobs/validate', { type: 'dry', max_attempts: 2 });
  assert.deepEqual(usual.json.attempts[1].after_seconds, { min: 0, max: 2 });
  assert.equal((await post('/v1/jobs/validate', { type: 'dry', priority: 11 })).status, 422);
  assert.deepEqual(await leaseAll('dry'), []);
});

test('a target or callback that may not be reached is refused before anything is stored', async () => {
  for (const url of [
    'http://127.0.0.1/',
    'http://2130706433/',
    'http://[::1]/',
    'http://169.254.169.254/',
    'ftp://a/',
    'x',
  ]) {
    for (const member of ['target', 'callback']) {
      const answer = await post('/v1/jobs', { type: 'ssrf', [member]: { url } });
      assert.equal(answer.status, 422, `${member} ${url}`);
      assert.equal(answer.json.errors[0].pointer, `#/${member}/url`);
    }
  }
  const raw = await post('/v1/queues/raw/jobs', '1', {
    'errand-type': 'ssrf',
    'errand-target': 'http://127.0.0.1/',
  });
  assert.equal(raw.status, 422);
});

test('what a record shows of a target is never a secret', async () => {
  const target = { url: 'https://203.0.113.9/hook', headers: { Authorization: 'Bearer secret' } };
  const callback = { url: 'https://203.0.113.9/done', events: ['dead'], headers: { 'X-Key': 'secret' } };
  const traceparent = '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01';
  const refused = await post('/v1/jobs', { type: 'shown', target, callback }, { traceparent });
  assert.equal(refused.status, 422, "a documentation address is nobody's");
  const open = { ...target, url: 'https://93.184.216.34/hook' };
  const stored = await post(
    '/v1/jobs',
    { type: 'shown', delay_seconds: 600, target: open, callback: { ...callback, url: open.url } },
    { traceparent, tracestate: 'a=1' },
  );
  assert.equal(stored.status, 202);
  const { json } = await call.get(stored.headers.get('content-location') as string);
  for (const record of [stored.json, json]) {
    assert.equal(record.type, 'shown');
    assert.deepEqual(record.target, { url: open.url, method: 'POST', headers: ['Authorization'] });
    assert.deepEqual(record.callback, { url: open.url, events: ['dead'], headers: ['X-Key'] });
    assert.equal(record.traceparent, traceparent);
    assert.doesNotMatch(JSON.stringify(record), /secret/);
  }
  const invalid = await post('/v1/jobs', { type: 'shown' }, { traceparent: '00-0-0-0' });
  assert.equal(
    invalid.json.traceparent,
    undefined,
    'a broken trace context is ignored, as its standard says',
  );
});
