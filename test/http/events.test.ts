// Watching a job on the wire: which form is given, where it begins, when it ends, and who is cut.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Problem } from '../../src/domain/problem.ts';
import { openStream } from '../support/event-stream.ts';
import { FakeJobs } from '../support/fake-actions.ts';
import { get, type Header, post, problemOf, send, serve, type WireAnswer } from '../support/serve.ts';
import { until } from '../support/until.ts';

const accept = (type: string): Header => ['Accept', type];
const streamType = 'text/event-stream';

interface Page {
  items: { id: string; event: string; data: Record<string, unknown> }[];
  next_cursor: string | null;
  last_event_id: string;
  terminal: boolean;
}
const pageOf = (answer: WireAnswer) => JSON.parse(answer.body) as Page;
const idsOf = (page: Page) => page.items.map(({ id }) => id);

test('a stream tells each step of a job as it happens, ends with done, and a reader who comes back gets 204', async () => {
  const { port, jobs, observed } = await serve();
  const url = `http://127.0.0.1:${port}`;
  const id = jobs.add({ type: 'a' });
  const stream = await openStream(url, id);
  assert.equal(stream.status, 200);
  assert.equal(stream.headers['content-type'], streamType);
  assert.equal(stream.headers['cache-control'], 'no-store, no-transform');
  assert.equal(stream.headers['x-accel-buffering'], 'no');
  assert.ok(stream.headers['x-request-id']);
  await until(() => stream.events.length === 1);
  jobs.start(id);
  await until(() => stream.events.length === 2);
  jobs.progress(id, '{"n":\r\n 9007199254740993}');
  await until(() => stream.events.length === 3);
  jobs.retry(id, 60_000);
  await until(() => stream.events.length === 4);
  jobs.start(id);
  jobs.succeed(id, '[1]');
  assert.equal(await stream.over, true);
  const told = stream.events.map(({ id, event, data }) => `${id} ${event} ${data.state ?? ''}`.trim());
  assert.deepEqual(told, [
    '1 state queued',
    '2 state running',
    '2.1 progress',
    '3 state retrying',
    '4 state running',
    '5 done succeeded',
  ]);
  assert.equal(stream.events.at(-1)?.data.result, `/v1/jobs/${id}/result`);
  assert.equal(stream.asides[0], 'retry: 2000');
  const back = await openStream(url, id, { after: '5' });
  assert.equal(back.status, 204);
  await until(() => observed.length === 2);
  assert.deepEqual(observed, ['GET /v1/jobs/:id/events 200', 'GET /v1/jobs/:id/events 204']);
  assert.equal(jobs.watch.streams, 0);
  assert.equal(jobs.watch.jobs, 0);
});

const formsOf: [string | null, number, string][] = [
  [null, 200, 'application/json'],
  ['*/*', 200, 'application/json'],
  ['application/json', 200, 'application/json'],
  ['application/*', 200, 'application/json'],
  ['text/event-stream;q=0.5, application/json', 200, 'application/json'],
  [streamType, 200, streamType],
  ['Text/Event-Stream', 200, streamType],
  ['text/*', 200, streamType],
  ['text/event-stream, */*', 200, streamType],
  ['application/json;q=0.5, text/event-stream', 200, streamType],
  ['text/html', 406, 'application/problem+json'],
  ['application/json;q=0', 406, 'application/problem+json'],
];

for (const [value, status, type] of formsOf) {
  test(`Accept ${value ?? 'absent'} is answered ${status} ${type}`, async () => {
    const { port, jobs } = await serve();
    const id = jobs.add({ type: 'a' });
    jobs.succeed(id);
    const answer = await get(port, `/v1/jobs/${id}/events`, value === null ? [] : [accept(value)]);
    assert.equal(answer.status, status);
    assert.equal(answer.headers['content-type'], type);
    if (status === 406) assert.equal(problemOf(answer).code, 'not-acceptable');
  });
}

test('a page holds what there is now, says where to go on, and whether anything can follow', async () => {
  const { port, jobs } = await serve();
  const id = jobs.add({ type: 'a' });
  const path = `/v1/jobs/${id}/events`;
  jobs.start(id);
  jobs.progress(id, ' {"x" : 1e400}');
  const first = await get(port, path);
  assert.equal(first.headers['cache-control'], 'no-store');
  assert.match(first.body, /"progress": \{"x" : 1e400\}\}/);
  const { next_cursor, last_event_id, terminal } = JSON.parse(first.body.replace('1e400', '1')) as Page;
  assert.deepEqual(
    { next_cursor, last_event_id, terminal },
    { next_cursor: null, last_event_id: '2.1', terminal: false },
  );
  const none = pageOf(await get(port, `${path}?after=2.1`));
  assert.deepEqual(none, { items: [], next_cursor: null, last_event_id: '2.1', terminal: false });
  jobs.succeed(id);
  const seen: string[] = [];
  let after = '0';
  for (;;) {
    const page = JSON.parse(
      (await get(port, `${path}?after=${after}&limit=2`)).body.replace('1e400', '1'),
    ) as Page;
    seen.push(...idsOf(page));
    after = page.last_event_id;
    assert.equal(page.terminal, true);
    if (page.next_cursor === null) break;
    assert.equal(page.next_cursor, after);
  }
  assert.deepEqual(seen, ['1', '2', '2.1', '3']);
});

test('the last event that was seen decides where a stream begins, whatever the query says', async () => {
  const { port, jobs } = await serve();
  const id = jobs.add({ type: 'a' });
  jobs.retry(id, 1);
  jobs.succeed(id);
  const ids = async (query: string, after?: string) => {
    const stream = await openStream(`http://127.0.0.1:${port}`, id, { query, after });
    await stream.over;
    return stream.events.map((one) => one.id);
  };
  assert.deepEqual(await ids(''), ['1', '2', '3', '4', '5']);
  assert.deepEqual(await ids('?after=2'), ['3', '4', '5']);
  assert.deepEqual(await ids('?after=2', '4.7'), ['5']);
});

test('an id of an event that cannot be one is refused: 400 in the header, 422 in the query', async () => {
  const { port, jobs } = await serve();
  const id = jobs.add({ type: 'a' });
  const path = `/v1/jobs/${id}/events`;
  for (const bad of ['x', '-1', '01', '1.0', '1.', '2.1.1', '99999999999', '9999999999', "1'--"]) {
    for (const type of [streamType, 'application/json']) {
      const header = await get(port, path, [accept(type), ['Last-Event-ID', bad]]);
      assert.equal(header.status, 400, bad);
      assert.equal(problemOf(header).code, 'bad-header');
    }
    assert.equal((await get(port, `${path}?after=${encodeURIComponent(bad)}`)).status, 422, bad);
  }
  assert.equal((await get(port, path, [['Last-Event-ID', '']])).status, 200);
  for (const query of ['limit=0', 'limit=201', 'limit=x', 'since=1']) {
    assert.equal((await get(port, `${path}?${query}`)).status, 422, query);
  }
});

test('an event the job has not had yet is refused, so that nobody waits for an end behind it', async () => {
  const { port, jobs } = await serve();
  const id = jobs.add({ type: 'a' });
  const path = `/v1/jobs/${id}/events`;
  const lease = async () => JSON.parse((await post(port, '/v1/leases', {})).body).leases[0].id as string;
  const expectLast = async (last: string, ...beyond: string[]) => {
    assert.equal((await get(port, `${path}?after=${last}`)).status, 200, last);
    for (const after of beyond) {
      assert.equal((await get(port, `${path}?after=${after}`)).status, 422, after);
      for (const type of [streamType, 'application/json']) {
        const answer = await get(port, path, [accept(type), ['Last-Event-ID', after]]);
        assert.deepEqual([answer.status, problemOf(answer).code], [400, 'bad-header'], after);
      }
    }
  };
  await expectLast('1', '2', '3', '1.1', '999999999');
  const held = await lease();
  await expectLast('2', '2.1', '3', '4');
  await send(port, {
    method: 'PUT',
    path: `/v1/leases/${held}/progress`,
    headers: [['Content-Type', 'application/json']],
    body: '1',
  });
  await expectLast('2.1', '2.2', '3');
  await post(port, `/v1/leases/${held}/release`, {});
  await expectLast('3', '4', '5');
  await post(port, `/v1/leases/${await lease()}/complete`, {});
  await expectLast('5', '6', '7');
  const after = await get(port, path, [accept(streamType), ['Last-Event-ID', '5']]);
  assert.equal(after.status, 204);
});

test('a job that is not there is told before a stream begins', async () => {
  const { port, jobs } = await serve();
  jobs.gone = 500;
  for (const type of [streamType, 'application/json']) {
    assert.equal((await get(port, '/v1/jobs/501/events', [accept(type)])).status, 404);
    assert.equal((await get(port, '/v1/jobs/500/events', [accept(type)])).status, 410);
  }
  assert.equal(jobs.watch.streams, 0);
});

test('HEAD tells the headers of either form and opens no stream', async () => {
  const { port, jobs } = await serve();
  const path = `/v1/jobs/${jobs.add({ type: 'a' })}/events`;
  for (const type of [streamType, 'application/json']) {
    const head = await send(port, { method: 'HEAD', path, headers: [accept(type)] });
    assert.equal(head.status, 200);
    assert.equal(head.headers['content-type'], type);
    assert.equal(head.body, '');
  }
  await until(() => jobs.watch.streams === 0);
});

test('a stream beyond the limit is 429 and says when to come back; a page is not counted', async () => {
  const { port, jobs } = await serve({ jobs: new FakeJobs(10, 1) });
  const id = jobs.add({ type: 'a' });
  const first = await openStream(`http://127.0.0.1:${port}`, id);
  const path = `/v1/jobs/${id}/events`;
  const refused = await get(port, path, [accept(streamType)]);
  assert.equal(refused.status, 429);
  assert.equal(problemOf(refused).code, 'stream-limit');
  assert.ok(Number(refused.headers['retry-after']) >= 1);
  assert.equal((await get(port, path)).status, 200);
  first.cut();
  await until(() => jobs.watch.streams === 0);
  assert.equal((await openStream(`http://127.0.0.1:${port}`, id)).status, 200);
});

test('a silent job is kept alive by comments, until the life of the stream is over', async () => {
  const { port, jobs } = await serve({ streams: { heartbeat_ms: 20, life_ms: 500 } });
  const stream = await openStream(`http://127.0.0.1:${port}`, jobs.add({ type: 'a' }));
  assert.equal(await stream.over, true);
  assert.deepEqual(stream.asides.slice(0, 2), ['retry: 2000', ':']);
  assert.ok(stream.asides.length >= 3);
});

test('a read that fails once a stream has begun is repeated; before that it is an error', async () => {
  const { port, jobs } = await serve();
  const url = `http://127.0.0.1:${port}`;
  const id = jobs.add({ type: 'a' });
  const stream = await openStream(url, id);
  await until(() => stream.events.length === 1);
  jobs.fault = new Problem('database-unavailable', { detail: 'the database did not answer in time' });
  jobs.succeed(id);
  const reads = () => jobs.calls.filter((call) => call === `history ${id}`).length;
  const before = reads();
  await until(() => reads() > before);
  assert.equal((await get(port, `/v1/jobs/${id}/events`, [accept(streamType)])).status, 503);
  jobs.fault = null;
  assert.equal(await stream.over, true);
  assert.deepEqual(
    stream.events.map((one) => one.id),
    ['1', '2', '3'],
  );
  jobs.fault = new Error('a bug');
  const broken = await get(port, `/v1/jobs/${id}/events`, [accept(streamType)]);
  assert.equal(broken.status, 500);
});

test('a reader who takes nothing is cut', async () => {
  const { port, jobs } = await serve({ streams: { stall_ms: 200 } });
  const id = jobs.add({ type: 'a' });
  jobs.start(id);
  const stream = await openStream(`http://127.0.0.1:${port}`, id, { paused: true });
  const filling = JSON.stringify('x'.repeat(500_000));
  await until(
    () => {
      jobs.progress(id, filling);
      return jobs.watch.streams === 0;
    },
    { everyMs: 30 },
  );
  stream.answer.resume();
  assert.equal(await stream.over, false);
});

test('a drain ends every stream at once, also of readers who do not read', async () => {
  const { port, jobs } = await serve();
  const url = `http://127.0.0.1:${port}`;
  const ids = Array.from({ length: 20 }, () => jobs.add({ type: 'a' }));
  const streams = await Promise.all(ids.map((id) => openStream(url, id)));
  const stalled = jobs.add({ type: 'a' });
  jobs.start(stalled);
  const silent = await openStream(url, stalled, { paused: true });
  for (let n = 0; n < 200; n++) {
    jobs.progress(stalled, JSON.stringify('x'.repeat(100_000)));
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  const began = performance.now();
  jobs.drain();
  assert.ok((await Promise.all(streams.map(({ over }) => over))).every(Boolean));
  assert.ok(performance.now() - began < 950, 'they end by themselves, before they would be cut');
  await until(() => jobs.watch.streams === 0, { timeoutMs: 3_000 });
  const refused = await get(port, `/v1/jobs/${stalled}/events`, [accept(streamType)]);
  assert.equal(problemOf(refused).code, 'draining');
  silent.cut();
});
