// Payload and result are the caller's: whatever JSON text comes in goes out byte for byte, through every door it can leave by.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { get, post, serve } from '../support/serve.ts';

const levels = (n: number) => `${'[{"a":'.repeat(n / 2)}1${'}]'.repeat(n / 2)}`;

const texts = [
  'null',
  '0',
  '-0',
  '9007199254740993',
  '12345678901234567890',
  '1e400',
  '-1E-400',
  '1.0',
  '1.10',
  '"\\u0000"',
  '"\\ud800"',
  '"\\u00e4 ä \\/ / \\" \u2028 💥"',
  '{"b":1,"a":2,"10":3,"9":4}',
  '{"a":1,"a":2}',
  '{"__proto__":{"polluted":true},"constructor":{"prototype":1}}',
  '{"\\u005f_proto__":1}',
  '{ "a" :\t[ 1 ,\n2 ]\r\n}',
  '{}',
  '[]',
  levels(64),
];

test('a payload is given back byte for byte by the record and by a lease', async () => {
  const { port, jobs } = await serve();
  for (const text of texts) {
    const stored = await post(port, '/v1/jobs', `{"type":"a","payload": ${text} ,"priority":1}`);
    assert.equal(stored.status, 202, text);
    const path = stored.headers['content-location'] as string;
    assert.ok((await get(port, `${path}?include=payload`)).body.endsWith(`,"payload":${text}}`), text);
    const lease = await post(port, '/v1/leases', {});
    assert.ok(lease.body.endsWith(`,"payload":${text}}}]}`), text);
    jobs.jobs.clear();
  }
  assert.equal(({} as Record<string, unknown>).polluted, undefined);
});

test('a result is given back byte for byte by its path and to a caller who waited', async () => {
  const { port, jobs } = await serve({ env: { ERRAND_WAIT_DEFAULT_SECONDS: '5' } });
  for (const text of texts) {
    const waiting = post(port, '/v1/jobs', { type: 'a' }, [['Expect', '200-ok']]);
    while (jobs.waiters.count === 0) await new Promise((resolve) => setTimeout(resolve, 1));
    const lease = JSON.parse((await post(port, '/v1/leases', {})).body).leases[0];
    await post(port, `/v1/leases/${lease.id}/complete`, `{"result":\n${text}\n}`);
    assert.equal((await waiting).body, text);
    assert.equal((await get(port, `/v1/jobs/${lease.job.id}/result`)).body, text);
  }
});

test('any JSON text survives the way through a job', async () => {
  const { port } = await serve();
  const anyText = fc
    .tuple(fc.json({ maxDepth: 6 }), fc.constantFrom(undefined, 1, '\t'), fc.boolean())
    .map(([text, indent, escapes]) => {
      const written = JSON.stringify(JSON.parse(text), null, indent);
      return escapes ? written.replaceAll('"a', '"\\u0061') : written;
    });
  await fc.assert(
    fc.asyncProperty(anyText, async (text) => {
      const stored = await post(port, '/v1/jobs', `{"type":"a","payload":${text}}`);
      assert.equal(stored.status, 202);
      const record = await get(port, `${stored.headers['content-location']}?include=payload`);
      assert.ok(record.body.endsWith(`,"payload":${text}}`));
    }),
    { numRuns: 100, seed: 4711 },
  );
});

test('a payload may be as large as the limit, to the byte, whatever stands around it', async () => {
  const { port } = await serve({ env: { ERRAND_PAYLOAD_LIMIT_BYTES: '10000' } });
  const exact = `"${'ä'.repeat(4_999)}"`;
  assert.equal(Buffer.byteLength(exact), 10_000);
  assert.equal((await post(port, '/v1/jobs', `{"type":"a","payload":${exact}}`)).status, 202);
  const padded = `{"type":"a",${' '.repeat(60_000)}"payload":${exact}}`;
  assert.equal((await post(port, '/v1/jobs', padded)).status, 202);
  assert.equal(
    (await post(port, '/v1/jobs', `{"type":"a","payload":${exact.replace('ä', 'äx')}}`)).status,
    413,
  );
});

test('a body in many small pieces is read as one', async () => {
  const { port } = await serve();
  const body = Buffer.from('{"type":"a","payload":"💥ä"}');
  const chunks = [...body].map((byte) =>
    Buffer.concat([Buffer.from('1\r\n'), Buffer.from([byte]), Buffer.from('\r\n')]),
  );
  const stored = await post(port, '/v1/jobs', Buffer.concat([...chunks, Buffer.from('0\r\n\r\n')]), [
    ['Content-Type', 'application/json; charset=UTF-8'],
    ['Content-Encoding', 'identity'],
    ['Transfer-Encoding', 'chunked'],
  ]);
  assert.equal(stored.status, 202);
  const record = await get(port, `${stored.headers['content-location']}?include=payload`);
  assert.equal(JSON.parse(record.body).payload, '💥ä');
});
