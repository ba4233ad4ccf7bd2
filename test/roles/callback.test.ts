// The news of an end reaches whoever asked for it: signed, retried, once for each end, whoever brings the end about.
import assert from 'node:assert/strict';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, before, test } from 'node:test';
import { Webhook } from 'standardwebhooks';
import { defineHandler } from '../../src/errand.ts';
import { calling } from '../support/call.ts';
import { startErrand, type TestErrand } from '../support/errand.ts';

interface News {
  headers: IncomingMessage['headers'];
  body: string;
  // biome-ignore lint/suspicious/noExplicitAny: a test looks into whatever was sent
  json: any;
}

const secret = `whsec_${Buffer.alloc(32, 5).toString('base64')}`;
let errand: TestErrand;
let server: Server;
let url: string;
const news: News[] = [];
const refusals = new Map<string, number>();
const listeners = new Set<() => void>();

before(async () => {
  server = createServer(async (request, response) => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const body = Buffer.concat(chunks).toString();
    const left = refusals.get(request.url ?? '') ?? 0;
    refusals.set(request.url ?? '', left - 1);
    if (left > 0) return response.writeHead(503, { 'errand-retry': '0' }).end();
    news.push({ headers: request.headers, body, json: JSON.parse(body) });
    response.writeHead(204).end();
    for (const listener of listeners) listener();
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  errand = await startErrand({
    env: { ERRAND_SIGNING_SECRETS: secret, ERRAND_TEST_CLOCK: 'true' },
    handlers: [
      defineHandler<{ fails?: boolean }>({
        type: 'work',
        run: ({ fails }) => {
          if (fails) throw new Error('broken');
          return { done: true };
        },
      }),
    ],
  });
});

after(async () => {
  await errand.stop();
  server.closeAllConnections();
  server.close();
});

const call = calling(() => errand.url);

/** The news of the end of a job; waits for it. */
function newsOf(job_id: string): Promise<News> {
  const { promise, resolve, reject } = Promise.withResolvers<News>();
  const look = () => {
    const found = news.find(({ json }) => json.data.id === job_id);
    if (found !== undefined) resolve(found);
  };
  const timer = setTimeout(() => reject(new Error(`no news of job ${job_id}`)), 15_000);
  listeners.add(look);
  look();
  return promise.finally(() => {
    clearTimeout(timer);
    listeners.delete(look);
  });
}

test('a success is told, signed, with a path to the result and the headers that were asked for', async () => {
  const callback = { url: `${url}/ok`, events: ['succeeded'], headers: { 'X-Key': 'k' } };
  const { json } = await call.post('/v1/jobs', { type: 'work', payload: {}, queue: 'q', callback });
  const told = await newsOf(json.id);
  assert.equal(told.json.type, 'job.succeeded');
  assert.equal(told.json.data.queue, 'q');
  assert.equal(told.json.data.result, `/v1/jobs/${json.id}/result`);
  assert.equal(told.headers['x-key'], 'k');
  assert.equal(told.headers['errand-type'], 'errand.callback');
  new Webhook(secret).verify(told.body, told.headers as Record<string, string>);
  const record = (await call.get(`/v1/jobs/${told.headers['errand-job-id']}`)).json;
  assert.equal(record.callback_of, json.id, 'the news is a job like any other');
  assert.equal(record.queue, 'q');
});

test('news that is refused is sent again until it is taken', async () => {
  refusals.set('/refused', 2);
  const callback = { url: `${url}/refused` };
  const { json } = await call.post('/v1/jobs', { type: 'work', payload: {}, callback });
  const told = await newsOf(json.id);
  assert.equal(told.headers['errand-attempt'], '3');
});

test('a death, a cancel, a run-out moment and a lost worker are told by whoever brings them about', async () => {
  const callback = { url: `${url}/ends` };
  const submit = async (job: object) =>
    (await call.post('/v1/jobs', { payload: {}, callback, max_attempts: 1, ...job })).json.id as string;
  const dead = await submit({ type: 'work', payload: { fails: true } });
  const cancelled = await submit({ type: 'nobody' });
  const expired = await submit({ type: 'nobody', expires_at: new Date(Date.now() + 300).toISOString() });
  const lost = await submit({ type: 'leased', timeout_seconds: 7_200 });
  await call.post(`/v1/jobs/${cancelled}/cancel`);
  const { leases } = (await call.post('/v1/leases', { types: ['leased'], lease_seconds: 1 })).json;
  assert.equal(leases[0].job.id, lost);
  assert.equal((await call.post('/test/clock', { advance_seconds: 3_600 })).status, 200);
  for (const [id, state] of [
    [dead, 'dead'],
    [cancelled, 'cancelled'],
    [expired, 'expired'],
    [lost, 'dead'],
  ] as const) {
    const { json, headers, body } = await newsOf(id);
    assert.equal(json.type, `job.${state}`);
    // Signed by the real time, whatever the test made of the other: the target has a clock of its own.
    new Webhook(secret).verify(body, headers as Record<string, string>);
    assert.equal(json.data.state, state);
  }
  assert.equal((await newsOf(dead)).json.data.error.detail, 'broken');
  assert.equal((await newsOf(lost)).json.data.error.class, 'lost');
});

test('of many completions at once one is told, once', async () => {
  const callback = { url: `${url}/once` };
  const { json } = await call.post('/v1/jobs', { type: 'once', callback });
  const { leases } = (await call.post('/v1/leases', { types: ['once'] })).json;
  const answers = await Promise.all(
    Array.from({ length: 5 }, () => call.post(`/v1/leases/${leases[0].id}/complete`, { result: 1 })),
  );
  assert.deepEqual(
    answers.map((answer) => answer.status),
    Array(5).fill(200),
  );
  await newsOf(json.id);
  const marker = await call.post('/v1/jobs', { type: 'work', payload: {}, callback });
  await newsOf(marker.json.id);
  assert.equal(news.filter((one) => one.json.data.id === json.id).length, 1);
});
