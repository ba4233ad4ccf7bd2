// The tables of docs/contract.md, Modes (what the headers ask for) and Outcomes (what the job answers), asked in full
// over raw sockets: every way to ask × both versions of HTTP × every end a job can have. The tables are data, in
// test/support/decision-tables.ts.

import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import {
  type Ask,
  asks,
  demands,
  type End,
  expectCell,
  finished,
  idIn,
  ranOutOnAnothers,
  ranOutOnOwn,
  refusedAsks,
  shortWaits,
} from '../support/decision-tables.ts';
import { type Header, inParallel, post, problemOf, type Served, send, serve } from '../support/serve.ts';

const versions = ['1.1', '1.0'] as const;

// Rows mostly wait, so several are asked at once.
describe('table 4.3', { concurrency: 4 }, () => {
  for (const end of [...finished, ...ranOutOnOwn]) {
    const when = finished.includes(end) ? '' : 'wait ran out, ';
    test(`a new job answers by the row "${when}${end.row}", however it was asked`, async () => {
      const served = await serve({ env: shortWaits });
      served.jobs.scripts.set('scripted', (id) => {
        // Some ends come before the caller waits, some while it waits.
        setTimeout(() => end.script(served.jobs, id), Number(id) % 3 === 0 ? 0 : 40);
      });
      await everyWay(async (ask, version) => {
        const answer = await submit(served, ask.headers, version, { type: 'scripted', ...end.body });
        expectCell(served.jobs, answer, ask, end);
        const awaits = awaitsContinue(ask.headers, version);
        assert.equal(answer.continued, awaits, '100 Continue');
        assert.equal(answer.headers.connection, version === '1.0' ? 'close' : 'keep-alive');
        expectAskedToStop(served, end, ask, idIn(answer.headers.link));
      });
    });
  }

  for (const end of [...finished, ...ranOutOnAnothers]) {
    const when = finished.includes(end) ? '' : 'wait ran out, ';
    test(`a replay finds the present state of the job: row "${when}${end.row}"`, async () => {
      const served = await serve({ env: shortWaits });
      const key: Header = ['Idempotency-Key', '"order-4711"'];
      // Another caller's job is not cancelled even where this caller asks for that.
      const body = { type: 'a', on_timeout: 'cancel' };
      const id = idIn((await post(served.port, '/v1/jobs', body, [key])).headers.link);
      end.script(served.jobs, id);
      await everyWay(async (ask, version) => {
        const answer = await submit(served, [key, ...ask.headers], version, body);
        assert.equal(answer.headers['idempotency-replayed'], 'true');
        assert.equal(idIn(answer.headers.link), id);
        expectCell(served.jobs, answer, ask, end);
      });
      assert.equal(served.jobs.stored, 1);
      assert.ok(!served.jobs.calls.some((call) => call.startsWith('cancel')));
    });
  }
});

test('a demand that is unknown or contradicts itself is 417 before the body, stores nothing and closes', async () => {
  const served = await serve({ env: shortWaits });
  await inParallel(
    refusedAsks.flatMap(({ headers, code }) =>
      versions.map((version) => async () => {
        const answer = await submit(served, headers, version, { type: 'a' });
        const what = `HTTP/${version} ${JSON.stringify(headers).slice(0, 80)}`;
        assert.equal(answer.status, 417, what);
        assert.equal(problemOf(answer).code, code, what);
        assert.equal(answer.continued, false, what);
        assert.equal(answer.headers['errand-mode'], 'refused', what);
        assert.equal(answer.headers.connection, 'close', what);
        assert.equal(answer.closed, true, what);
      }),
    ),
  );
  assert.equal(served.jobs.stored, 0);
});

test('elsewhere any expectation but 100-continue is 417, and Errand-Mode says so', async () => {
  const served = await serve({ env: shortWaits });
  const id = served.jobs.add({ type: 'a' });
  const requests = [
    `GET /v1/jobs/${id}`,
    `GET /v1/jobs/${id}/status`,
    `HEAD /v1/jobs/${id}/result`,
    `POST /v1/jobs/${id}/cancel`,
    'POST /v1/leases',
    'POST /v1/leases/lse_x/heartbeat',
    'GET /health/live',
    'GET /metrics',
    'GET /openapi.json',
    'GET /nowhere',
    'DELETE /v1/jobs',
  ].map((line) => line.split(' ') as [string, string]);
  for (const [method, path] of requests) {
    for (const name of ['Expect', 'Errand-Expect']) {
      const refused = await send(served.port, { method, path, headers: [[name, '200-ok']] });
      assert.equal(refused.status, 417, `${method} ${path} ${name}`);
      assert.equal(refused.headers['errand-mode'], 'refused');
      assert.equal(refused.closed, true);
    }
    const read = await send(served.port, { method, path, headers: [['Expect', '100-continue']] });
    assert.notEqual(read.status, 417, `${method} ${path} 100-continue`);
  }
  const cancels = served.jobs.calls.filter((call) => call === 'cancel');
  assert.deepEqual(cancels, ['cancel'], 'only the request without an expectation reached its route');
});

/** Asks in every way of the table Modes and both versions of HTTP; tells all that was wrong. */
async function everyWay(ask: (ask: Ask, version: '1.0' | '1.1') => Promise<void>): Promise<void> {
  const faults = await inParallel(
    asks.flatMap((one) =>
      versions.map((version) => async () => {
        try {
          await ask(one, version);
          return [];
        } catch (error) {
          const asked = one.headers.map((header) => header.join(': ')).join(' | ');
          return [`HTTP/${version} ${asked}: ${(error as Error).message}`];
        }
      }),
    ),
  );
  assert.deepEqual(faults.flat(), []);
}

function submit(served: Served, headers: readonly Header[], version: '1.0' | '1.1', body: object) {
  return send(served.port, {
    method: 'POST',
    path: '/v1/jobs',
    version,
    headers: [['Content-Type', 'application/json'], ...headers],
    body: JSON.stringify(body),
    awaitsContinue: awaitsContinue(headers, version),
  });
}

function awaitsContinue(headers: readonly Header[], version: '1.0' | '1.1'): boolean {
  const asks = headers.some(([name, value]) => /^expect$/i.test(name) && /100-continue/i.test(value));
  return asks && version === '1.1';
}

function expectAskedToStop(served: Served, end: End, ask: Ask, id: string): void {
  if (end.body?.on_timeout !== 'cancel' || !demands.some((demand) => demand === ask.column)) return;
  const facts = served.jobs.jobs.get(id)?.facts;
  assert.ok(facts?.cancel_requested || facts?.state === 'cancelled', 'asked to stop');
}
