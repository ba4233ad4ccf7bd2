// Pull workers against the whole program: what they report, and what many of them cost.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { Leased } from '../../src/actions/pull.ts';
import { Problem } from '../../src/domain/problem.ts';
import { defineHandler } from '../../src/errand.ts';
import { Lanes } from '../../src/store/lanes.ts';
import { aSubmission, startErrand, type TestErrand } from '../support/errand.ts';
import { crowdOf } from '../support/jobs.ts';
import { poolOn } from '../support/postgres.ts';

let errand: TestErrand;

before(async () => {
  errand = await startErrand({
    env: { ERRAND_LEASE_SECONDS: '30' },
    handlers: [defineHandler({ type: 'handled', run: () => 'done' })],
  });
});

after(() => errand.stop());

async function submit(type: string): Promise<string> {
  return (await errand.actions.submit(aSubmission({ type }))).id;
}

async function lease(type: string, over: { worker?: string; wait_ms?: number } = {}): Promise<Leased> {
  const [leased] = await errand.actions.pull.lease({
    worker: 'w1',
    queues: [],
    types: [type],
    limit: 1,
    lease_seconds: 30,
    wait_ms: 5_000,
    ...over,
  });
  assert.ok(leased, `nothing of type ${type} to lease`);
  return leased;
}

const isLost = (error: unknown) => error instanceof Problem && error.slug === 'lease-lost';

test('a failure that ended a cancelled job is told the same when it is repeated, whatever its class', async () => {
  const { pull, cancel } = errand.actions;
  for (const [kind, max_attempts] of [
    ['permanent', 8],
    ['retryable', 1],
    ['retryable', 8],
  ] as const) {
    const { id } = await errand.actions.submit(aSubmission({ type: 'unwanted', max_attempts }));
    const { lease_id } = await lease('unwanted');
    assert.equal((await cancel.cancel(id)).kind, 'requested');
    const failing = { class: kind, message: 'stopped', retry_after_seconds: null };
    for (const call of ['first', 'repeated'])
      assert.equal((await pull.fail(lease_id, failing)).status, 'cancelled', `${kind} ${call}`);
    await assert.rejects(pull.complete(lease_id, { result: null, created_uri: null }), isLost);
  }
});

test('a completion repeated with another result is refused, and what was first stays', async () => {
  const { pull, inspect } = errand.actions;
  const id = await submit('kept');
  const { lease_id } = await lease('kept');
  const first = { result: '{"n":1}', created_uri: '/things/1' };
  // Some of these come together with the first: they are judged like those that come later.
  const other = { ...first, result: '{"n":2}' };
  const together = await Promise.allSettled([first, first, other].map((end) => pull.complete(lease_id, end)));
  assert.deepEqual(
    together.map(({ status }) => status),
    ['fulfilled', 'fulfilled', 'rejected'],
  );
  for (const end of [other, { ...first, created_uri: '/things/2' }, { result: null, created_uri: null }])
    await assert.rejects(pull.complete(lease_id, end), isLost);
  assert.equal(await pull.complete(lease_id, first), id);
  assert.deepEqual(await inspect.result(id), first);
});

test('a failure is told in 2,000 characters, however many came and whatever is among them', async () => {
  const { url } = errand;
  const trace = `\0Error\ud800: ${'at line\n'.repeat(20_000)}`;
  for (const many of [false, true]) {
    const id = await submit('traced');
    const { lease_id } = await lease('traced');
    const path = many ? '/v1/leases/fail' : `/v1/leases/${lease_id}/fail`;
    const failure = { class: 'permanent', message: trace };
    const answer = await fetch(`${url}${path}`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(many ? { leases: [{ id: lease_id, ...failure }] } : failure),
    });
    assert.equal(answer.status, 200);
    const job = await errand.actions.inspect.job(id);
    assert.equal(job?.state, 'dead');
    assert.equal(job?.error, `Error\ufffd: ${'at line\n'.repeat(20_000)}`.slice(0, 2_000));
  }
});

test('progress is seen while the job runs, and the last checkpoint goes to the next start', async () => {
  const id = await submit('steps');
  const { pull, inspect } = errand.actions;
  const first = await lease('steps');
  assert.equal(first.checkpoint, null);
  const told = errand.next('job.progressed', (event) => event.job_id === id);
  await pull.report(first.lease_id, { progress: '{"current":1,"total":9007199254740993}' });
  await told;
  const answer = await fetch(`${errand.url}/v1/jobs/${id}`);
  assert.match(await answer.text(), /"state":"running".*"progress":\{"current":1,"total":9007199254740993\}/);
  const before = answer.headers.get('etag');
  await pull.report(first.lease_id, { progress: '2' });
  assert.notEqual((await fetch(`${errand.url}/v1/jobs/${id}/status`)).headers.get('etag'), before);
  await pull.report(first.lease_id, { checkpoint: '{"line":40}' });
  await pull.report(first.lease_id, { checkpoint: '{"line":80}' });
  await pull.fail(first.lease_id, { class: 'retryable', message: 'x', retry_after_seconds: 0 });
  await assert.rejects(pull.report(first.lease_id, { progress: '3' }), isLost);
  const second = await lease('steps');
  assert.deepEqual([second.epoch, second.checkpoint], [2, '{"line":80}']);
  await pull.complete(second.lease_id, { result: null, created_uri: null });
  assert.equal((await inspect.job(id))?.progress, '2');
});

test('reports that come together are one write, the latest of each, and everybody is answered', async () => {
  const ids = await Promise.all([submit('burst'), submit('burst')]);
  const [a, b] = [await lease('burst'), await lease('burst')];
  let written = 0;
  const off = errand.events.on('job.progressed', ({ job_id }) => {
    if (ids.includes(job_id)) written++;
  });
  const { pull, inspect } = errand.actions;
  const reports = Array.from({ length: 200 }, (_, n) =>
    pull.report((n % 2 === 0 ? a : b).lease_id, { progress: String(n) }),
  );
  await Promise.all(reports);
  off();
  assert.equal(written, 2);
  assert.equal((await inspect.job(a.job_id))?.progress, '198');
  assert.equal((await inspect.job(b.job_id))?.progress, '199');
});

test('a replica that only answers requests hands out what was there before it started', async () => {
  const id = await submit('old');
  const replica = await startErrand({ databaseUrl: errand.databaseUrl, env: { ERRAND_ROLES: 'api' } });
  const [leased] = await replica.actions.pull.lease({
    worker: 'w1',
    queues: [],
    types: ['old'],
    limit: 1,
    lease_seconds: 30,
    wait_ms: 5_000,
  });
  await replica.stop();
  assert.equal(leased?.job_id, id);
});

test('10,000 jobs of a type nobody serves hold up neither pull workers nor handlers', async () => {
  const db = poolOn(errand.databaseUrl, 1);
  const unserved = await new Lanes(db).named('default', 'unserved');
  await db.many(crowdOf, [unserved.id, 10_000]);
  await db.end();
  // Once this process has learnt of them.
  await errand.next('chore.ran', ({ chore }) => chore === 'look');
  const began = performance.now();
  const pulled = await submit('pulled');
  assert.equal((await lease('pulled')).job_id, pulled);
  const ended = errand.next('job.ended', ({ type }) => type === 'handled');
  const handled = await submit('handled');
  assert.equal((await ended).job_id, handled);
  const took = performance.now() - began;
  assert.ok(took < 2_000, `${took} ms`);
});
