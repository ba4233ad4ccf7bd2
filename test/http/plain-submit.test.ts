// The usual submit goes a short way of its own; a caller must not be able to tell it from the long one.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Problem } from '../../src/domain/problem.ts';
import { headOf, open, readAnswer, send, serve, type WireAnswer } from '../support/serve.ts';
import { until } from '../support/until.ts';

const served = await serve();
const { port, jobs } = served;

const json = ['Content-Type', 'application/json'] as const;
const id = ['X-Request-Id', 'same'] as const;

/** A preference nobody knows changes nothing of the answer, but leads a request the long way. */
const longWay = ['Prefer', 'unknown-preference'] as const;

/**
 * An answer without what may differ: whose job it is, and when; and whether the connection is used on, which Fastify ends after
 * a body it could not read.
 */
function withoutChance({ status, headers, body }: WireAnswer) {
  const alike = (text: string) =>
    text
      .replaceAll(/\/v1\/jobs\/\d+/g, '/v1/jobs/N')
      .replaceAll(/"id":"\d+"/g, '"id":"N"')
      .replaceAll(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, 'T');
  const { date: _, connection: __, 'keep-alive': ___, ...rest } = headers;
  return { status, headers: JSON.parse(alike(JSON.stringify(rest))), body: alike(body) };
}

const bodies: [string, string | Buffer][] = [
  ['a job with a type alone', '{"type":"a"}'],
  ['a job with all that most have', '{"type":"a","queue":"q.1","payload":{"é":[1,2]},"priority":9}'],
  ['a job with what few have', '{"type":"a","tags":["x","ü"],"max_attempts":3,"timeout_seconds":5}'],
  ['a job that is due later', '{"type":"a","delay_seconds":60}'],
  ['a job with a target', '{"type":"a","target":{"url":"http://127.0.0.1/"}}'],
  ['a payload with a space around it', ' { "type" : "a" , "payload" : null } '],
  ['an unknown member', '{"type":"a","typo":1}'],
  ['a bad type', '{"type":"A b"}'],
  ['no type', '{}'],
  ['a bad priority', '{"type":"a","priority":10}'],
  ['an array', '[]'],
  ['a word', 'true'],
  ['half a body', '{"type":"a"'],
  ['a member twice', '{"type":"a","type":"b"}'],
  ['a payload that is too deep', `{"type":"a","payload":${'['.repeat(70)}${']'.repeat(70)}}`],
  ['a text that cannot be stored', '{"type":"a\\u0000"}'],
  ['bytes that are not UTF-8', Buffer.from([0x7b, 0xff, 0x7d])],
  ['a byte order mark', Buffer.from('\ufeff{"type":"a"}')],
  ['blanks alone', '   '],
];

for (const [what, body] of bodies) {
  test(`${what}: both ways answer the same`, async (t) => {
    // It spreads the times after which to come again.
    t.mock.method(Math, 'random', () => 0);
    const request = { method: 'POST', path: '/v1/jobs', body };
    const short = await send(port, { ...request, headers: [json, id] });
    const long = await send(port, { ...request, headers: [json, id, longWay] });
    assert.deepEqual(withoutChance(short), withoutChance(long));
  });
}

test('both ways answer the same when the store refuses, fails or breaks', async () => {
  const { port, jobs, errors } = await serve();
  const faults = [
    new Problem('queue-saturated', { detail: 'too much', headers: { 'retry-after': '1' } }),
    new Problem('outcome-unknown', { detail: 'lost', headers: { 'retry-after': '2' } }),
    new Error('a fault of our own'),
  ];
  for (const fault of faults) {
    jobs.beforeStore = () => Promise.reject(fault);
    const request = { method: 'POST', path: '/v1/jobs', body: '{"type":"a"}' };
    const short = await send(port, { ...request, headers: [json, id] });
    const long = await send(port, { ...request, headers: [json, id, longWay] });
    assert.deepEqual(withoutChance(short), withoutChance(long));
  }
  assert.equal(errors.length, 2, 'operators are told of a fault of our own, whichever way it was met');
});

test('requests are told apart by what they say, and each is counted once under its route', async () => {
  const { port, observed } = await serve();
  const ways: (readonly [string, string])[][] = [[], [longWay], [['Idempotency-Key', 'k']]];
  for (const more of ways) {
    const answer = await send(port, {
      method: 'POST',
      path: '/v1/jobs',
      headers: [json, ...more],
      body: '{"type":"a"}',
    });
    assert.equal(answer.status, 202);
  }
  assert.deepEqual(observed, Array(3).fill('POST /v1/jobs 202'));
});

test('a body that comes in pieces is one body, and a caller who breaks off has stored nothing', async () => {
  const body = Buffer.from('{"type":"pieces"}');
  const request = { method: 'POST', path: '/v1/jobs', headers: [json] };
  const socket = await open(port);
  for (const byte of Buffer.concat([headOf(request, body), body])) socket.write(Buffer.from([byte]));
  assert.equal((await readAnswer(socket)).status, 202);
  const stored = jobs.stored;
  const leaver = await open(port);
  leaver.write(Buffer.concat([headOf(request, body), body.subarray(0, 5)]));
  leaver.destroy();
  assert.equal((await send(port, { path: '/health/live' })).status, 200);
  assert.equal(jobs.stored, stored);
});

test('two submits sent at once on one connection are answered in turn', async () => {
  const body = Buffer.from('{"type":"a"}');
  const one = (n: string) =>
    Buffer.concat([
      headOf({ method: 'POST', path: '/v1/jobs', headers: [json, ['X-Request-Id', n]] }, body),
      body,
    ]);
  const socket = await open(port);
  let text = '';
  socket.on('data', (chunk) => {
    text += chunk;
  });
  socket.write(Buffer.concat([one('first'), one('second')]));
  await until(() => text.includes('"basis":', text.indexOf('second')));
  const ids = [...text.matchAll(/x-request-id: (\w+)/g)].map(([, n]) => n);
  assert.deepEqual(ids, ['first', 'second']);
  socket.destroy();
});

test('a process that stops says so on the answers it still gives', async () => {
  let isDraining = false;
  const { port, jobs } = await serve({
    lifecycle: { draining: () => isDraining, leaving: () => isDraining },
  });
  jobs.beforeStore = async () => {
    isDraining = true;
  };
  const answer = await send(port, {
    method: 'POST',
    path: '/v1/jobs',
    headers: [json],
    body: '{"type":"a"}',
  });
  assert.deepEqual([answer.status, answer.headers.connection], [202, 'close']);
});
