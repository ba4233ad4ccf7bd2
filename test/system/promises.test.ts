// What a caller is promised, over real sockets and the real database: one job per key, bytes as sent, and no answer that
// says "nothing ran" about a job that ran.
import assert from 'node:assert/strict';
import { Buffer } from 'node:buffer';
import { after, before, test } from 'node:test';
import { defineHandler } from '../../src/errand.ts';
import { startErrand, type TestErrand } from '../support/errand.ts';

const ran = new Set<string>();
let errand: TestErrand;

before(async () => {
  errand = await startErrand({
    env: { ERRAND_WAIT_DEFAULT_SECONDS: '0.3', ERRAND_HANDLER_CONCURRENCY: '200' },
    handlers: [
      defineHandler({ type: 'echo', run: (payload) => payload }),
      defineHandler({
        type: 'race',
        run: async (_, { job_id }) => {
          ran.add(job_id);
          // Longer than a busy machine takes to answer the hundred whose wait is over.
          await new Promise((resolve) => setTimeout(resolve, 500));
        },
      }),
    ],
  });
});

after(() => errand.stop());

function post(body: string, headers: Record<string, string> = {}): Promise<Response> {
  return fetch(`${errand.url}/v1/jobs`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', ...headers },
    body,
  });
}

test('100 concurrent POSTs with one Idempotency-Key make one job and one Location', async () => {
  const body = JSON.stringify({ type: 'kept', payload: { order: 4711 } });
  const headers = { 'idempotency-key': '"order-4711"' };
  const answers = await Promise.all(Array.from({ length: 100 }, () => post(body, headers)));
  assert.deepEqual([...new Set(answers.map((answer) => answer.status))], [202]);
  assert.equal(new Set(answers.map((answer) => answer.headers.get('location'))).size, 1);
  const replayed = answers.filter((answer) => answer.headers.get('idempotency-replayed') === 'true');
  assert.equal(replayed.length, 99);

  const other = await post(JSON.stringify({ type: 'kept', payload: { order: 4712 } }), headers);
  assert.equal(other.status, 422);
  assert.equal(((await other.json()) as { code: string }).code, 'idempotency-key-reused');
});

test('a replay is answered from the present state of its job, under its own expectation', async () => {
  const headers = { 'idempotency-key': 'replayed-1' };
  const body = JSON.stringify({ type: 'echo', payload: { a: 1 } });
  const first = await post(body, headers);
  assert.equal(first.status, 202);
  const second = await post(body, { ...headers, 'errand-expect': '200-ok' });
  assert.equal(second.status, 200);
  assert.equal(second.headers.get('idempotency-replayed'), 'true');
  assert.equal(await second.text(), '{"a":1}');
});

test('over 1,000 races "executed": false never coexists with a handler that started', async () => {
  const counts = { false: 0, in_progress: 0, done: 0 };
  const race = async (n: number): Promise<void> => {
    // Due around the moment at which the wait of 0.3 s runs out.
    const body = JSON.stringify({ type: 'race', delay_seconds: 0.25 + (n % 51) / 1_000 });
    const answer = await post(body, { 'errand-expect': '200-ok' });
    const told = (await answer.json()) as { executed?: false | string; job?: { id: string } };
    if (answer.status === 200) counts.done++;
    else if (told.executed === false) {
      counts.false++;
      const id = told.job?.id as string;
      assert.equal(ran.has(id), false, `job ${id} ran although executed was false`);
      withdrawn.push(id);
    } else {
      assert.equal(told.executed, 'in_progress', JSON.stringify(told));
      counts.in_progress++;
      const status = await fetch(`${errand.url}${answer.headers.get('location')}`);
      assert.equal(status.status, 200);
    }
  };
  const withdrawn: string[] = [];
  for (let n = 0; n < 1_000; n += 100) await Promise.all(Array.from({ length: 100 }, (_, i) => race(n + i)));
  assert.ok(counts.false > 0 && counts.in_progress > 0, `the race was one-sided: ${JSON.stringify(counts)}`);
  for (const id of withdrawn) assert.equal(ran.has(id), false, `job ${id} ran after executed was false`);
});

const levels = `${'['.repeat(63)}{"deep":1}${']'.repeat(63)}`;
const payloads = {
  'a number beyond 2^53': '9007199254740993',
  'a number beyond a double': '{"n":1e400}',
  'the key __proto__': '{"__proto__":{"polluted":true},"constructor":{"prototype":1}}',
  'keys in their order, twice': '{"b":1,"a":2,"b":3}',
  '64 levels': levels,
  'white space and escapes': '{ "a" : "\\u0041\\u0000\\ud800" , "é":"😀" }',
};

for (const [what, payload] of Object.entries(payloads)) {
  test(`${what} comes back byte for byte, as payload and as result`, async () => {
    const type = 'bytes';
    const accepted = await post(`{"type":"${type}","payload":${payload}}`);
    assert.equal(accepted.status, 202, await accepted.clone().text());
    const { id } = (await accepted.json()) as { id: string };
    const record = await (await fetch(`${errand.url}/v1/jobs/${id}?include=payload`)).text();
    assert.ok(record.includes(`"payload":${payload}`), record);

    const leased = await fetch(`${errand.url}/v1/leases`, {
      method: 'POST',
      headers: { 'content-type': 'application/json', prefer: 'wait=5' },
      body: JSON.stringify({ worker: 'bytes', types: [type] }),
    });
    const text = await leased.text();
    assert.ok(text.includes(payload), text);
    const lease = /"id":"(lse_[^"]+)"/.exec(text)?.[1];
    const done = await fetch(`${errand.url}/v1/leases/${lease}/complete`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: `{"result":${payload}}`,
    });
    assert.equal(done.status, 200, await done.text());
    const result = await fetch(`${errand.url}/v1/jobs/${id}/result`);
    assert.deepEqual(Buffer.from(await result.arrayBuffer()), Buffer.from(payload));
  });
}

test('a moment may have any offset RFC 3339 knows, where a job is submitted, changed or listed', async () => {
  const offsets = ['Z', '-00:00', '+05:45', '+14:00', '+23:59', '-23:59'];
  for (const offset of offsets) {
    const run_at = `2999-06-01T12:00:00.25${offset}`;
    const utc = new Date(run_at).toISOString();
    const accepted = await post(JSON.stringify({ type: 'kept', run_at }));
    const { id, run_at: told } = (await accepted.json()) as { id: string; run_at: string };
    assert.equal(told, utc, offset);
    const changed = await fetch(`${errand.url}/v1/jobs/${id}`, {
      method: 'PATCH',
      headers: { 'content-type': 'application/merge-patch+json' },
      body: JSON.stringify({ run_at: run_at.replace('2999', '2998') }),
    });
    const record = (await changed.json()) as { run_at: string };
    assert.equal(record.run_at, utc.replace('2999', '2998'), offset);
    const after = encodeURIComponent(`2001-01-01T00:00:00${offset}`);
    const list = await fetch(`${errand.url}/v1/jobs?queue=default&created_after=${after}`);
    const { items } = (await list.json()) as { items: { id: string }[] };
    assert.ok(
      items.some((job) => job.id === id),
      offset,
    );
  }
});

test('a job can be followed from its Location to its result', async () => {
  const accepted = await post('{"type":"echo","payload":[1,2]}');
  const location = accepted.headers.get('location') as string;
  let answer: Response;
  do answer = await fetch(`${errand.url}${location}`, { redirect: 'manual', headers: { prefer: 'wait=5' } });
  while (answer.status !== 303);
  const result = await fetch(`${errand.url}${answer.headers.get('location')}`);
  assert.equal(await result.text(), '[1,2]');
});
