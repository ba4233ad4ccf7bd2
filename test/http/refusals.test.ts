// Everything that can be refused, as bytes: each must come back as problem+json with the status and code of its kind, an id,
// and a place and remedy where there is one. None may be a 500, store anything, or repeat what was sent.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Problem, type ProblemFault } from '../../src/domain/problem.ts';
import {
  get,
  type Header,
  post,
  problemOf,
  send,
  sendBytes,
  serve,
  type WireAnswer,
  type WireRequest,
} from '../support/serve.ts';

const limit = 2_000;
const env = { ERRAND_PAYLOAD_LIMIT_BYTES: String(limit) };
// What no answer may repeat; it is put wherever a caller can put text.
const canary = 'hunter2';

interface Refused {
  what: string;
  request: WireRequest | string | Buffer;
  status: number;
  code: string;
  headers?: Record<string, string>;
  /** A pointer that `errors` must name. */
  pointer?: string;
}

const json: Header = ['Content-Type', 'application/json'];
const submit = (body: unknown, ...headers: Header[]): WireRequest => ({
  method: 'POST',
  path: '/v1/jobs',
  headers: headers.some(([name]) => name === 'Content-Type') ? headers : [json, ...headers],
  body: typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body),
});
const raw = (...lines: string[]) => `${lines.join('\r\n')}\r\n\r\n`;
const deep = (levels: number) => `${'['.repeat(levels)}${']'.repeat(levels)}`;
const malformed = { status: 400, code: 'malformed-json' };
const broken = { status: 400, code: 'bad-header' };
const nothing = { status: 404, code: 'not-found' };
const wrongType = {
  status: 415,
  code: 'unsupported-media-type',
  headers: { 'accept-post': 'application/json' },
};
const tooLarge = { status: 413, code: 'payload-too-large' };

const unreadable: Refused[] = [
  { what: 'text that is no HTTP', request: `${canary}\r\n\r\n`, ...broken },
  {
    what: 'a bare line feed in a header',
    request: `GET / HTTP/1.1\r\nHost: a\r\nX: a\nb\r\n\r\n`,
    ...broken,
  },
  { what: 'an unknown method', request: raw('BREW / HTTP/1.1', 'Host: a'), ...broken },
  { what: 'HTTP/2 in the first line', request: raw('GET / HTTP/7.3', 'Host: a'), ...broken },
  { what: 'a blank in a header name', request: raw('GET / HTTP/1.1', 'Host: a', 'X Y: 1'), ...broken },
  { what: 'no Host', request: raw('GET /health HTTP/1.1'), ...broken },
  { what: 'two Hosts', request: raw('GET /health HTTP/1.1', 'Host: a', 'host: b'), ...broken },
  {
    what: 'Content-Length beside Transfer-Encoding',
    request: raw('POST /v1/jobs HTTP/1.1', 'Host: a', 'Content-Length: 4', 'Transfer-Encoding: chunked'),
    ...broken,
  },
  {
    what: 'an unknown Transfer-Encoding',
    request: raw('POST /v1/jobs HTTP/1.1', 'Host: a', 'Transfer-Encoding: xchunked'),
    ...broken,
  },
  {
    what: 'two different Content-Lengths',
    request: raw('POST /v1/jobs HTTP/1.1', 'Host: a', 'Content-Length: 4', 'Content-Length: 5'),
    ...broken,
  },
  {
    what: 'a negative Content-Length',
    request: raw('POST / HTTP/1.1', 'Host: a', 'Content-Length: -1'),
    ...broken,
  },
  {
    what: 'a broken chunk size',
    request: `${raw('POST /v1/jobs HTTP/1.1', 'Host: a', json.join(': '), 'Transfer-Encoding: chunked')}zz\r\n`,
    ...broken,
  },
  {
    what: 'a URL of 20 kB',
    request: raw(`GET /${canary.repeat(3_000)} HTTP/1.1`, 'Host: a'),
    status: 414,
    code: 'uri-too-long',
  },
  {
    what: 'a header of 20 kB',
    request: raw('GET / HTTP/1.1', 'Host: a', `X: ${canary.repeat(3_000)}`),
    status: 431,
    code: 'headers-too-large',
  },
  ...[101, 400, 2_500].map((count) => ({
    what: `${count} headers`,
    request: raw('GET /health HTTP/1.1', ...Array.from({ length: count - 1 }, () => 'X:1'), 'Host: a'),
    status: 431,
    code: 'headers-too-large',
  })),
];

const misdirected: Refused[] = [
  { what: 'an unknown path', request: { path: `/${canary}` }, ...nothing },
  { what: 'an unknown path with a body', request: { ...submit(canary), path: '/v1/nope' }, ...nothing },
  { what: 'a path with a trailing slash', request: { path: '/v1/jobs/' }, ...nothing },
  { what: 'a broken escape in the path', request: { path: '/v1/jobs/%zz' }, ...broken },
  { what: 'an escaped NUL in the path', request: { path: '/v1/jobs/%00' }, ...nothing },
  { what: 'an escaped climb in the path', request: { path: '/v1/jobs/..%2f..%2fetc' }, ...nothing },
  ...['0', '01', '-1', '1.0', '1e3', ' 1', 'abc', '9223372036854775808', '٣', '1'.repeat(10_000)].flatMap(
    (id) =>
      ['', '/status', '/result'].map((rest) => ({
        what: `${id.length > 99 ? `an id of ${id.length} digits` : `the id "${id}"`} at ${rest || 'the record'}`,
        request: { path: `/v1/jobs/${encodeURIComponent(id)}${rest}` },
        ...nothing,
      })),
  ),
  { what: 'an unknown problem', request: { path: '/problems/nope' }, ...nothing },
  ...[
    { method: 'PUT', path: '/v1/jobs', allow: 'GET, HEAD, POST, OPTIONS' },
    { method: 'GET', path: '/v1/leases', allow: 'POST, OPTIONS' },
    { method: 'PUT', path: '/v1/jobs/1', allow: 'GET, HEAD, PATCH, OPTIONS' },
    { method: 'PUT', path: '/v1/jobs/batch', allow: 'POST, OPTIONS' },
    { method: 'DELETE', path: '/v1/jobs/1/cancel', allow: 'POST, OPTIONS' },
    { method: 'PROPFIND', path: '/health', allow: 'GET, HEAD, OPTIONS' },
    { method: 'PATCH', path: '/v1/leases', allow: 'POST, OPTIONS' },
    { method: 'POST', path: '/openapi.json', allow: 'GET, HEAD, OPTIONS' },
  ].map(({ allow, ...request }) => ({
    what: `${request.method} ${request.path}`,
    request,
    status: 405,
    code: 'method-not-allowed',
    headers: { allow },
  })),
  {
    what: 'a method hidden in a header',
    request: { method: 'POST', path: '/v1/jobs/1', headers: [['X-HTTP-Method-Override', 'GET']] },
    status: 405,
    code: 'method-not-allowed',
  },
];

const bodies: Refused[] = [
  { what: 'no body', request: { method: 'POST', path: '/v1/jobs' }, ...malformed },
  {
    what: 'an empty body',
    request: { ...submit(''), headers: [json, ['Content-Length', '0']] },
    ...malformed,
  },
  { what: 'text that is no JSON', request: submit(`{"type": ${canary}}`), ...malformed },
  { what: 'half a body', request: submit('{"type":"a"'), ...malformed },
  { what: 'something behind the body', request: submit('{"type":"a"}{}'), ...malformed },
  { what: 'a byte order mark', request: submit('\ufeff{"type":"a"}'), ...malformed },
  { what: 'UTF-16', request: submit(Buffer.from('{"type":"a"}', 'utf16le')), ...malformed },
  {
    what: 'bytes that are no UTF-8',
    request: submit(Buffer.from([...Buffer.from('{"type":"'), 0xc3, 0x28, 0x22, 0x7d])),
    status: 400,
    code: 'invalid-utf8',
  },
  {
    what: 'a member twice',
    request: submit('{"type":"a","type":"b"}'),
    status: 400,
    code: 'duplicate-key',
    pointer: '#/type',
  },
  {
    what: 'a member twice, once escaped',
    request: submit('{"type":"a","\\u0074ype":"b"}'),
    status: 400,
    code: 'duplicate-key',
    pointer: '#/type',
  },
  { what: 'a payload of 65 levels', request: submit(`{"type":"a","payload":${deep(65)}}`), ...malformed },
  { what: 'a body of 17 levels', request: submit(`{"type":"a","tags":${deep(16)}}`), ...malformed },
  {
    what: 'a body of 30,000 levels',
    request: submit(`{"type":"a","tags":${deep(30_000)}}`),
    ...malformed,
  },
  {
    what: 'a body of 1,001 members',
    request: submit(`{${Array.from({ length: 1_001 }, (_, i) => `"a${i}":0`).join(',')}}`),
    ...malformed,
  },
  { what: 'an array as body', request: submit('[]'), status: 422, code: 'validation-failed', pointer: '#' },
  { what: 'null as body', request: submit('null'), status: 422, code: 'validation-failed', pointer: '#' },
  { what: 'text', request: submit(canary, ['Content-Type', 'text/plain']), ...wrongType },
  {
    what: 'a form',
    request: submit('a=b', ['Content-Type', 'application/x-www-form-urlencoded']),
    ...wrongType,
  },
  {
    what: 'multipart',
    request: submit('--x', ['Content-Type', 'multipart/form-data; boundary=x']),
    ...wrongType,
  },
  {
    what: 'another JSON type',
    request: submit('{}', ['Content-Type', 'application/cloudevents+json']),
    ...wrongType,
  },
  {
    what: 'a type that begins like JSON',
    request: submit('{}', ['Content-Type', 'application/jsonx']),
    ...wrongType,
  },
  { what: 'an unreadable type', request: submit('{}', ['Content-Type', 'json']), ...wrongType },
  { what: 'a body without a type', request: { method: 'POST', path: '/v1/jobs', body: '{}' }, ...wrongType },
  {
    what: 'another charset',
    request: submit({ type: 'a' }, ['Content-Type', 'application/json; charset=latin1']),
    ...wrongType,
  },
  ...['gzip', 'br', 'identity, gzip', 'x'].map((encoding) => ({
    what: `the encoding ${encoding}`,
    request: submit({ type: 'a' }, ['Content-Encoding', encoding]),
    ...wrongType,
    headers: { ...wrongType.headers, 'accept-encoding': 'identity' },
  })),
  {
    what: 'a payload one byte too long',
    request: submit(`{"type":"a","payload":"${'x'.repeat(limit - 1)}"}`),
    ...tooLarge,
    pointer: '#/payload',
  },
  {
    what: 'a body beyond all limits',
    request: submit(`{"type":"a","payload":"${canary.repeat(20_000)}"}`),
    ...tooLarge,
  },
  {
    what: 'a result one byte too long',
    request: { ...submit(`{"result":"${'x'.repeat(limit - 1)}"}`), path: '/v1/leases/lse_x/complete' },
    ...tooLarge,
    pointer: '#/result',
  },
  {
    what: 'NUL in a tag',
    request: submit('{"type":"a","tags":["a\\u0000"]}'),
    status: 422,
    code: 'payload-not-storable',
    pointer: '#/tags/0',
  },
  {
    what: 'half a surrogate pair in a tag',
    request: submit('{"type":"a","tags":["\\ud800"]}'),
    status: 422,
    code: 'payload-not-storable',
    pointer: '#/tags/0',
  },
  ...['', '""', `"${canary}`, 'a b', 'a,b', 'x'.repeat(256), 'ä', '"a"b"', 'a\tb'].map((key) => ({
    what: `the Idempotency-Key ${JSON.stringify(key).slice(0, 20)}`,
    request: submit({ type: 'a' }, ['Idempotency-Key', key]),
    status: 400,
    code: 'idempotency-key-malformed',
  })),
  {
    what: 'two Idempotency-Keys',
    request: submit({ type: 'a' }, ['Idempotency-Key', 'a'], ['Idempotency-Key', 'b']),
    status: 400,
    code: 'idempotency-key-malformed',
  },
];

test('what is no HTTP that can be read is told as what it is, and the connection ends', async () => {
  const served = await serve({ env });
  for (const refused of unreadable) {
    const answer = await sendBytes(served.port, refused.request as string);
    expectRefused(answer, refused);
    assert.equal(answer.closed, true, refused.what);
  }
});

test('paths, ids and methods that do not exist are refused without asking the database', async () => {
  const served = await serve({ env });
  for (const refused of misdirected) {
    expectRefused(await send(served.port, refused.request as WireRequest), refused);
  }
  assert.deepEqual(served.jobs.calls, []);
});

test('bodies that cannot be read or are too large are refused before anything is stored', async () => {
  const served = await serve({ env });
  for (const refused of bodies) {
    expectRefused(await send(served.port, refused.request as WireRequest), refused);
  }
  assert.equal(served.jobs.stored, 0);
  assert.deepEqual(served.errors, []);
});

const wrongMembers: [string, Record<string, unknown>][] = [
  ['#/type', {}],
  ['#/type', { type: null }],
  ['#/type', { type: 1 }],
  ['#/type', { type: '' }],
  ['#/type', { type: 'A' }],
  ['#/type', { type: 'a'.repeat(64) }],
  ['#/type', { type: 'a\n[31m' }],
  ['#/queue', { type: 'a', queue: "x'; drop table jobs" }],
  ['#/queue', { type: 'a', queue: '../etc' }],
  ['#/hunter', { type: 'a', hunter: canary }],
  ['#/__proto__', JSON.parse('{"type":"a","__proto__":{"x":1}}')],
  ['#/constructor', { type: 'a', constructor: { prototype: 1 } }],
  ['#/state', { type: 'a', state: 'succeeded' }],
  ['#/tenant', { type: 'a', tenant: 1 }],
  ['#/attempt', { type: 'a', attempt: 1 }],
  ['#/epoch', { type: 'a', epoch: 1 }],
  ['#/a~1b~0c%22', { type: 'a', 'a/b~c"': 1 }],
  ...[-1, 10, 2.5, '1', null, 1e9, 2 ** 53].map((priority) => at('priority', { priority })),
  ...[0, 101, 1.5, '8', -5].map((max_attempts) => at('max_attempts', { max_attempts })),
  ...[0, 86_401, 0.5, '60'].map((timeout_seconds) => at('timeout_seconds', { timeout_seconds })),
  ...[-1, 1e12, '5', null].map((delay_seconds) => at('delay_seconds', { delay_seconds })),
  ...[
    '9999-12-31',
    '+275761-01-01T00:00:00Z',
    '-infinity',
    'tomorrow',
    '2026-01-01T24:00:00Z',
    '2026-06-30T23:59:60Z',
    '2026-02-30T00:00:00Z',
    '2026-01-01T00:00:00',
    '2026-01-01 00:00:00Z',
    '1969-12-31T23:59:59Z',
    '0000-01-01T00:00:00Z',
    '9999-12-31T23:59:59-12:00',
    0,
    null,
    canary,
  ].map((run_at) => at('run_at', { run_at })),
  at('expires_at', { expires_at: '2026-01-01' }),
  at('expires_at', { run_at: '2030-01-02T00:00:00Z', expires_at: '2030-01-01T00:00:00Z' }),
  at('delay_seconds', { run_at: '2030-01-02T00:00:00Z', delay_seconds: 1 }),
  at('on_timeout', { on_timeout: canary }),
  at('tags', { tags: 'a' }),
  at('tags', { tags: Array.from({ length: 21 }, () => 'a') }),
  at('tags/0', { tags: [''] }),
  at('tags/1', { tags: ['a', 'x'.repeat(64)] }),
  at('backoff/base_seconds', { backoff: { base_seconds: -1 } }),
  at('backoff/cap_seconds', { backoff: { base_seconds: 10, cap_seconds: 1 } }),
  at('backoff/strategy', { backoff: { strategy: canary } }),
  at('backoff/kind', { backoff: { kind: 'fixed' } }),
];

function at(pointer: string, members: Record<string, unknown>): [string, Record<string, unknown>] {
  return [`#/${pointer}`, { type: 'a', ...members }];
}

test('members that are unknown, of the wrong type or out of range are pointed at', async () => {
  const served = await serve({ env });
  for (const [pointer, body] of wrongMembers) {
    const what = JSON.stringify(body).slice(0, 60);
    expectRefused(await post(served.port, '/v1/jobs', body), {
      what,
      request: '',
      status: 422,
      code: 'validation-failed',
      pointer,
    });
  }
  assert.equal(served.jobs.stored, 0);
  assert.equal(({} as Record<string, unknown>).x, undefined);
});

test('a number that overflows in the body is refused, not turned into null', async () => {
  const served = await serve({ env });
  for (const member of ['priority', 'delay_seconds', 'max_attempts']) {
    const answer = await post(served.port, '/v1/jobs', `{"type":"a","${member}":1e400}`);
    assert.equal(answer.status, 422, member);
  }
});

test('times that are unusual but clear are taken', async () => {
  const served = await serve({ env });
  const times = [
    '1970-01-01T00:00:00Z',
    '9999-12-31T23:59:59Z',
    '2126-01-01T00:00:00.123456789+23:59',
    '2026-01-01T00:00:00-00:00',
  ];
  for (const run_at of times) {
    const answer = await post(served.port, '/v1/jobs', { type: 'a', run_at, expires_at: null });
    assert.equal(answer.status, 202, `${run_at} ${answer.body}`);
    assert.equal(Date.parse(JSON.parse(answer.body).run_at), Date.parse(run_at));
    // Postgres knows fewer offsets than RFC 3339, so what reaches it is in UTC.
    assert.equal(served.jobs.submissions.at(-1)?.run_at, new Date(run_at).toISOString());
  }
});

test('every fault of a body is told at once, up to twenty', async () => {
  const served = await serve({ env });
  const many = Object.fromEntries(Array.from({ length: 30 }, (_, i) => [`x${i}`, i]));
  const problem = problemOf(await post(served.port, '/v1/jobs', { ...many, priority: 11, tags: 1 }));
  const errors = problem.errors as ProblemFault[];
  assert.equal(errors.length, 20);
  assert.ok(errors.every(({ detail }) => /^[a-z]/.test(detail)));
  assert.match(problem.detail as string, /more in errors$/);
});

test('a problem thrown by an action is sent as it is; anything else is 500 without its text', async () => {
  const served = await serve({ env });
  served.jobs.refusal = new Problem('queue-saturated', {
    detail: 'too many',
    headers: { 'retry-after': '7' },
  });
  const known = await post(served.port, '/v1/jobs', { type: 'a' });
  assert.equal(known.status, 503);
  assert.equal(known.headers['retry-after'], '7');
  assert.equal(problemOf(known).retryable, true);
  assert.deepEqual(served.errors, []);
  served.jobs.refusal = new TypeError(`password ${canary} of postgres`);
  const unknown = await post(served.port, '/v1/jobs', { type: 'a' }, [['X-Request-Id', 'my-id.1']]);
  assert.equal(unknown.status, 500);
  assert.equal(problemOf(unknown).code, 'internal');
  assert.ok(!unknown.body.includes(canary) && !unknown.body.includes('TypeError'));
  assert.deepEqual(served.errors, [{ request_id: 'my-id.1', error: served.jobs.refusal }]);
});

test('a request of HTTP/1.0 without a Host is served', async () => {
  const served = await serve({ env });
  assert.equal((await sendBytes(served.port, 'GET /health/live HTTP/1.0\r\n\r\n')).status, 200);
});

test('100 headers are served, with every one of them seen', async () => {
  const served = await serve({ env });
  const padding = Array.from({ length: 97 }, (_, i): Header => [`X-${i}`, '1']);
  const answer = await get(served.port, '/health/live', [...padding, ['X-Request-Id', 'last']]);
  assert.equal(answer.status, 200);
  assert.equal(answer.headers['x-request-id'], 'last');
});

test('OPTIONS says what a path can do and grants nothing to other origins', async () => {
  const served = await serve({ env });
  const origin: Header[] = [
    ['Origin', 'https://evil.example'],
    ['Access-Control-Request-Method', 'POST'],
  ];
  const answer = await send(served.port, { method: 'OPTIONS', path: '/v1/jobs', headers: origin });
  assert.equal(answer.status, 204);
  assert.equal(answer.headers.allow, 'GET, HEAD, POST, OPTIONS');
  assert.equal(answer.headers['accept-post'], 'application/json');
  const raw = await send(served.port, { method: 'OPTIONS', path: '/v1/queues/mail/jobs' });
  assert.equal(raw.headers['accept-post'], '*/*');
  const job = await send(served.port, { method: 'OPTIONS', path: '/v1/jobs/1' });
  assert.equal(job.headers['accept-patch'], 'application/merge-patch+json, application/json');
  assert.ok(!Object.keys(answer.headers).some((name) => name.startsWith('access-control')));
  const read = await send(served.port, { method: 'OPTIONS', path: '/v1/jobs/1/status' });
  assert.equal(read.headers.allow, 'GET, HEAD, OPTIONS');
  assert.equal(read.headers['accept-post'], undefined);
  assert.equal((await send(served.port, { method: 'OPTIONS', path: '*' })).status, 204);
  assert.equal((await send(served.port, { method: 'OPTIONS', path: '/nope' })).status, 404);
});

function expectRefused(answer: WireAnswer, refused: Refused): void {
  const { what, status, code, headers = {}, pointer } = refused;
  assert.equal(answer.status, status, `${what}: ${answer.body}`);
  const problem = problemOf(answer);
  assert.equal(problem.code, code, what);
  assert.equal(problem.status, status, what);
  assert.equal(problem.type, `/problems/${code}`, what);
  assert.equal(problem.request_id, answer.headers['x-request-id'], what);
  assert.equal(answer.headers['cache-control'], 'no-store', what);
  assert.equal(answer.headers['x-content-type-options'], 'nosniff', what);
  assert.match(problem.detail as string, /^[a-z#0-9].*[^.]$/, what);
  for (const [name, value] of Object.entries(headers)) assert.equal(answer.headers[name], value, what);
  if (pointer !== undefined) {
    const pointers = (problem.errors as ProblemFault[]).map((fault) => fault.pointer);
    assert.ok(pointers.includes(pointer), `${what}: ${pointers}`);
  }
  assert.ok(!answer.body.includes(canary), `${what} is repeated: ${answer.body}`);
}
