// What a push says and what its answer means.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { failureStatus } from '../../src/domain/outcome.ts';
import { pushHeaders, Target, type TargetAnswer, verdictOf } from '../../src/domain/push.ts';
import { verify } from '../../src/domain/signature.ts';

const limit = 1_000;
const now = new Date('2026-01-02T03:04:05Z');
const url = 'https://app.example/hooks/mail?x=1';

const job = {
  job_id: '48213',
  queue: 'emails',
  type: 'mail.send',
  attempt: 3,
  max_attempts: 8,
  epoch: 4,
  deadline: new Date('2026-01-02T03:05:05Z'),
  options: { target: { url, method: 'POST' as const, headers: { 'X-A': '1', Authorization: 'Bearer a' } } },
};
const secret = Buffer.alloc(32, 7);
const request = {
  lease_id: 'lse_x',
  body: Buffer.from('{"to":"a"}'),
  now,
  secrets: [secret],
  release: '1.2.3',
  span_id: 'b7ad6b7169203331',
};

const asked = (target: unknown) => Target.safeParse(target);
const withHeaders = (headers: Record<string, string>) => asked({ url, headers }).success;

function answer(
  status: number,
  headers: Record<string, string> = {},
  body: string | Buffer | null = '',
): TargetAnswer {
  return { kind: 'answered', status, headers, body: typeof body === 'string' ? Buffer.from(body) : body };
}

const judged = (...of: Parameters<typeof answer>) => verdictOf(answer(...of), url, limit, now);
const json = { 'content-type': 'application/json' };

/** The class of a failure; anything else fails the test. */
function classOf(...of: Parameters<typeof answer>): string {
  const verdict = judged(...of);
  assert.ok(verdict.kind === 'failed', verdict.kind);
  assert.equal(verdict.http_status, of[0]);
  return verdict.class;
}

test('a target needs only its URL and is posted to', () => {
  assert.deepEqual(asked({ url }).data, { url, method: 'POST' });
  assert.equal(asked({ url, method: 'GET' }).success, false);
  assert.equal(asked({ url, verb: 'PUT' }).success, false);
  assert.equal(asked({}).success, false);
});

test('a target may have headers of its own, up to twenty', () => {
  assert.ok(withHeaders({ Authorization: 'Bearer a.b', 'X-A': '', Cookie: 'a=b; c=d', Accept: '*/*' }));
  const many = (n: number) => Object.fromEntries(Array.from({ length: n }, (_, i) => [`x-${i}`, 'a']));
  assert.ok(withHeaders(many(20)));
  assert.ok(!withHeaders(many(21)));
});

test('headers that errand or the connection sets are refused in any case', () => {
  const ours = ['Host', 'Content-Length', 'CONTENT-TYPE', 'Content-Encoding', 'Accept-Encoding', 'Expect'];
  const hops = [
    'Connection',
    'Keep-Alive',
    'TE',
    'Trailer',
    'Transfer-Encoding',
    'Upgrade',
    'Proxy-Authorization',
  ];
  const signed = ['webhook-id', 'Webhook-Signature', 'errand-epoch', 'Errand-Anything', 'Idempotency-Key'];
  for (const name of [...ours, ...hops, ...signed, 'traceparent', 'tracestate', 'User-Agent']) {
    assert.ok(!withHeaders({ [name]: 'a' }), name);
  }
});

test('a header that is none, or that comes twice, is refused', () => {
  for (const name of ['', ' a', 'a b', 'a:b', 'a\r\nb', 'ä', '_a', '1a', 'a'.repeat(65)]) {
    assert.ok(!withHeaders({ [name]: 'v' }), JSON.stringify(name));
  }
  for (const value of ['a\r\nb', 'a\nb', 'a\0', 'ä', ' a', 'a ', 'a'.repeat(1_025)]) {
    assert.ok(!withHeaders({ 'X-A': value }), JSON.stringify(value));
  }
  assert.ok(!withHeaders({ 'X-A': '1', 'x-a': '2' }));
});

test('a push says which start of which job it is, signed', () => {
  const headers = pushHeaders(job, request);
  const { 'webhook-signature': signature, ...rest } = headers;
  assert.deepEqual(rest, {
    'X-A': '1',
    Authorization: 'Bearer a',
    'Content-Type': 'application/json',
    'User-Agent': 'errand/1.2.3',
    'Accept-Encoding': 'identity',
    'webhook-id': '48213',
    'webhook-timestamp': '1767323045',
    'Idempotency-Key': '"48213"',
    'Errand-Job-Id': '48213',
    'Errand-Queue': 'emails',
    'Errand-Type': 'mail.send',
    'Errand-Attempt': '3',
    'Errand-Max-Attempts': '8',
    'Errand-Epoch': '4',
    'Errand-Deadline': '2026-01-02T03:05:05.000Z',
    'Errand-Lease': 'lse_x',
  });
  const message = { id: '48213', timestamp: 1_767_323_045, body: request.body };
  assert.ok(verify(message, signature as string, [secret], now));
});

test('a push has the media type of its payload', () => {
  const options = { ...job.options, content_type: 'text/csv' };
  assert.equal(pushHeaders({ ...job, options }, request)['Content-Type'], 'text/csv');
});

test('a push is a child of the span that submitted the job', () => {
  const trace = '4bf92f3577b34da6a3ce929d0e0e4736';
  const of = (traceparent: string, tracestate?: string) =>
    pushHeaders(
      { ...job, options: { ...job.options, traceparent, ...(tracestate ? { tracestate } : {}) } },
      request,
    );
  const child = of(`00-${trace}-00f067aa0ba902b7-01`, 'vendor=1');
  assert.equal(child.traceparent, `00-${trace}-b7ad6b7169203331-01`);
  assert.equal(child.tracestate, 'vendor=1');
  const broken = of('00-zz-00f067aa0ba902b7-01', 'vendor=1');
  assert.ok(!('traceparent' in broken) && !('tracestate' in broken));
});

test('JSON in a 200 is the result, as the text it was', () => {
  const text = '{"n":12345678901234567890, "a":1e400}';
  for (const type of [
    'application/json',
    'application/json; charset=utf-8',
    'application/hal+json',
    'Application/JSON',
  ]) {
    assert.deepEqual(judged(200, { 'content-type': type }, ` ${text}\n`), {
      kind: 'succeeded',
      result: text,
      created_uri: null,
    });
  }
});

test('any other text is the result as a JSON string, any other bytes as base64', () => {
  const results = [
    ['text/plain', 'done: "ok"\0', '"done: \\"ok\\"\\u0000"'],
    ['application/json', 'not json', '"not json"'],
    [
      'application/json',
      `${'['.repeat(65)}${']'.repeat(65)}`,
      JSON.stringify(`${'['.repeat(65)}${']'.repeat(65)}`),
    ],
    ['application/jsonp', '{}', '"{}"'],
    ['', '{}', '"{}"'],
    ['image/png', Buffer.from([0x89, 0x50, 0xff]), '{"content_type":"image/png","base64":"iVD/"}'],
  ] as const;
  for (const [type, body, result] of results) {
    const verdict = judged(200, type === '' ? {} : { 'content-type': type }, body);
    assert.deepEqual(verdict, { kind: 'succeeded', result, created_uri: null });
  }
});

test('a success without a body has no result, and 204 and 205 never have one', () => {
  const none = { kind: 'succeeded', result: null, created_uri: null };
  assert.deepEqual(judged(200, json), none);
  assert.deepEqual(judged(204), none);
  assert.deepEqual(judged(205, json, '{}'), none);
  assert.deepEqual(judged(203, json, '1'), { ...none, result: '1' });
});

test('201 names what was created, relative to what was called', () => {
  const created = (location?: string) => {
    const verdict = judged(201, location === undefined ? {} : { location });
    assert.ok(verdict.kind === 'succeeded');
    return verdict.created_uri;
  };
  assert.equal(created('/mails/7'), 'https://app.example/mails/7');
  assert.equal(created('https://b.example/ü'), 'https://b.example/%C3%BC');
  for (const location of ['javascript:1', 'http://[', `/${'a'.repeat(3_000)}`, undefined])
    assert.equal(created(location), null);
  assert.deepEqual(judged(201, { ...json, location: '7' }, '{"id":7}'), {
    kind: 'succeeded',
    result: '{"id":7}',
    created_uri: 'https://app.example/hooks/7',
  });
});

test('202 hands the job over, whatever its body is', () => {
  assert.deepEqual(judged(202), { kind: 'handed_over' });
  assert.deepEqual(judged(202, { 'content-encoding': 'gzip' }, null), { kind: 'handed_over' });
});

test('a success that cannot be kept is permanent: the same request would only bring it again', () => {
  assert.equal(classOf(200, json, null), 'permanent');
  assert.equal(classOf(200, { ...json, 'content-encoding': 'gzip' }, 'x'), 'permanent');
  assert.equal(classOf(200, {}, '\0'.repeat(limit / 2)), 'permanent');
  assert.equal(judged(200, { ...json, 'content-encoding': 'identity' }, '1').kind, 'succeeded');
});

test('what may pass is tried again, everything else is permanent', () => {
  for (const status of [408, 409, 423, 425, 500, 502, 503, 504, 599])
    assert.equal(classOf(status), 'retryable');
  assert.equal(classOf(429), 'rate_limited');
  assert.equal(classOf(503, { 'retry-after': '5' }), 'rate_limited');
  for (const status of [300, 301, 302, 303, 304, 307, 308, 400, 401, 403, 404, 410, 413, 422, 451, 501]) {
    assert.equal(classOf(status), 'permanent', String(status));
  }
  assert.equal(classOf(500, json, null), 'retryable');
});

test('Retry-After is seconds or a date; what is neither is ignored', () => {
  const told = (text: string) => {
    const verdict = judged(429, { 'retry-after': text });
    return verdict.kind === 'failed' ? verdict.retry_after_seconds : undefined;
  };
  assert.equal(told('30'), 30);
  assert.equal(told('1000000000000'), 1e12);
  assert.equal(told('Fri, 02 Jan 2026 03:04:35 GMT'), 30);
  assert.equal(told('Fri, 02 Jan 2026 03:00:00 GMT'), 0);
  for (const text of ['-1', '1e12', '1.5', 'soon', '', 'Fri, 99 Foo 2026 03:00:00 GMT', '2026-01-02']) {
    assert.equal(told(text), null, text);
  }
});

test('Errand-Retry overrides what a status would mean', () => {
  assert.equal(classOf(503, { 'errand-retry': 'never', 'retry-after': '5' }), 'permanent');
  assert.equal(classOf(429, { 'errand-retry': 'Never' }), 'permanent');
  assert.equal(classOf(404, { 'errand-retry': '30' }), 'retryable');
  assert.equal(classOf(429, { 'errand-retry': '30' }), 'rate_limited');
  const verdict = judged(503, { 'errand-retry': '7', 'retry-after': '60' });
  assert.equal(verdict.kind === 'failed' && verdict.retry_after_seconds, 7);
  assert.equal(classOf(400, { 'errand-retry': 'soon' }), 'permanent');
  assert.equal(judged(200, { 'errand-retry': 'never' }).kind, 'succeeded');
});

test('a target that wants to be asked later says so in Errand-Snooze, and no success is taken for that', () => {
  const snooze = (status: number, wish: string) => {
    const answer = { kind: 'answered', status, headers: { 'errand-snooze': wish }, body: null } as const;
    const verdict = verdictOf(answer, 'https://example.com/', 100, new Date(0));
    return verdict.kind === 'snoozed' ? verdict.delay_ms : verdict.kind;
  };
  assert.equal(snooze(425, '30'), 30_000);
  assert.equal(snooze(503, ' 1 '), 1_000);
  assert.equal(snooze(500, '999999999'), 86_400_000);
  for (const wish of ['0', '-1', 'soon', '1.5', '']) assert.equal(snooze(503, wish), 'failed', wish);
  assert.equal(snooze(204, '30'), 'succeeded');
});

test('without an answer a job is tried again, unless it could never come', () => {
  const of = (reason: 'connect' | 'reset' | 'tls' | 'protocol' | 'aborted' | 'address' | 'too_large') => {
    const verdict = verdictOf(
      { kind: 'failed', reason, detail: 'a.example cannot be reached' },
      url,
      limit,
      now,
    );
    assert.ok(verdict.kind === 'failed' && verdict.message === 'a.example cannot be reached');
    return verdict.class;
  };
  for (const reason of ['connect', 'reset', 'tls', 'protocol', 'aborted'] as const)
    assert.equal(of(reason), 'retryable');
  for (const reason of ['address', 'too_large'] as const) assert.equal(of(reason), 'permanent');
});

test('a failure is told by its status, and in the words of a problem document', () => {
  const message = (...of: Parameters<typeof answer>) => {
    const verdict = judged(...of);
    return verdict.kind === 'failed' ? verdict.message : '';
  };
  assert.equal(message(500, json, '{"detail":"secret"}'), 'the target answered 500');
  assert.match(message(302), /redirects are not followed/);
  const problem = { 'content-type': 'application/problem+json' };
  assert.equal(
    message(422, problem, '{"detail":"no such mailbox"}'),
    'the target answered 422: no such mailbox',
  );
  assert.equal(message(422, problem, '{"title":"Unknown"}'), 'the target answered 422: Unknown');
  for (const body of ['', '{', 'null', '[]', '{"detail":7}', '"a"']) {
    assert.equal(message(422, problem, body), 'the target answered 422', body);
  }
  assert.ok(message(422, problem, `{"detail":"${'a'.repeat(900)}\\u0000"}`).length < 600);
});

test('a caller who waits is told that the fault lies behind errand', () => {
  const status = (kind: 'permanent' | 'retryable' | 'timeout') =>
    failureStatus({ class: kind, source: 'target', detail: null, http_status: null });
  assert.deepEqual([status('permanent'), status('retryable'), status('timeout')], [502, 502, 504]);
});
