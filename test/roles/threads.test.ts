// Handlers in threads: they stop nothing else, they are stopped when they do not obey, and they crash alone.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { defineHandler } from '../../src/errand.ts';
import { aSubmission, startErrand, type TestErrand } from '../support/errand.ts';
import { until } from '../support/until.ts';

const folder = fileURLToPath(new URL('../support/threads', import.meta.url));
const soon = JSON.stringify({ strategy: 'fixed', base_seconds: 0.05, cap_seconds: 1, jitter: 'none' });
let errand: TestErrand;

before(async () => {
  errand = await startErrand({ env: { ERRAND_HANDLERS_DIR: folder, ERRAND_HANDLER_THREADS: '2' } });
});

after(() => errand.stop());

async function submit(type: string, payload: unknown, over: Parameters<typeof aSubmission>[0] = {}) {
  const submission = aSubmission({ type, payload: JSON.stringify(payload), backoff: soon, ...over });
  return (await errand.actions.submit(submission)).id;
}

function ended(id: string) {
  return errand.next('job.ended', ({ job_id, outcome }) => job_id === id && outcome !== 'retry');
}

async function facts(id: string) {
  const job = await errand.actions.inspect.job(id);
  assert.ok(job);
  return job;
}

async function resultOf(id: string): Promise<unknown> {
  const row = await errand.actions.inspect.result(id);
  return JSON.parse(row?.result ?? 'null');
}

const runs = (id: string) => until(async () => (await facts(id)).state === 'running');

test('while a thread computes for two seconds the process answers, and its progress is seen', async () => {
  const id = await submit('spin', { ms: 2_000 });
  const done = ended(id);
  await errand.next('job.progressed', ({ job_id }) => job_id === id);
  const record = (await (await fetch(`${errand.url}/v1/jobs/${id}`)).json()) as Record<string, unknown>;
  assert.deepEqual([record.state, record.progress], ['running', { current: 0, total: 2_000 }]);
  let isDone = false;
  void done.then(() => {
    isDone = true;
  });
  let worst = 0;
  let answers = 0;
  const ask = async () => {
    const began = performance.now();
    const { status } = await fetch(`${errand.url}/health/live`);
    worst = Math.max(worst, performance.now() - began);
    if (status === 200) answers++;
    return isDone;
  };
  await until(ask, { everyMs: 10 });
  assert.equal((await done).outcome, 'succeeded');
  assert.deepEqual((await facts(id)).progress, '{"current":2000,"total":2000}');
  assert.ok(answers > 10, `${answers} answers`);
  assert.ok(worst < 1_000, `${worst} ms for an answer`);
});

test('what a thread keeps goes to the next start, whose facts it is told like any handler', async () => {
  const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
  const id = await submit('steps', { a: 1 }, { options: { traceparent } });
  assert.equal((await ended(id)).outcome, 'succeeded');
  assert.deepEqual(await resultOf(id), {
    shown: { a: 1 },
    last_checkpoint: { next: 2 },
    attempt: 2,
    epoch: 2,
    content_type: 'application/json',
    traceparent,
    in_time: true,
  });
});

test('a thread is handed texts and bytes as they are', async () => {
  const bytes = Buffer.from([0, 255, 7]);
  const text = await submit('steps', null, { payload: 'a,b', options: { content_type: 'text/csv' } });
  const binary = await submit('steps', null, {
    payload: bytes.toString('base64'),
    options: { content_type: 'image/png', payload_base64: true },
  });
  await Promise.all([ended(text), ended(binary)]);
  const shown = async (id: string) => {
    const { shown, content_type } = (await resultOf(id)) as { shown: unknown; content_type: string };
    return [shown, content_type];
  };
  assert.deepEqual(await shown(text), ['a,b', 'text/csv']);
  assert.deepEqual(await shown(binary), [[0, 255, 7], 'image/png']);
});

test('the class of a failure and the limits of reports are kept over the border of a thread', async () => {
  const permanent = await submit('steps', 'permanent');
  await ended(permanent);
  const dropped = errand.next('progress.dropped', () => true);
  const large = await submit('steps', 'large');
  await ended(large);
  const { job_id, why } = await dropped;
  assert.deepEqual([job_id, why], [large, 'is larger than 65536 bytes']);
  const told = [await facts(permanent), await facts(large)].map((job) => [job.state, job.class, job.error]);
  assert.deepEqual(told, [
    ['dead', 'permanent', 'never'],
    ['succeeded', null, null],
  ]);
});

test('a thread that looks at its signal hears of a cancel, though it never pauses', async () => {
  const id = await submit('spin', { ms: 60_000, looks: true });
  await runs(id);
  const done = ended(id);
  assert.deepEqual(await errand.actions.cancel.cancel(id), { kind: 'requested' });
  assert.equal((await done).outcome, 'cancelled');
  assert.equal((await facts(id)).error, 'the job was cancelled');
});

test('threads that obey nothing are ended, at a cancel and at the deadline, and others take their place', async () => {
  const cancelled = await submit('spin', { ms: 60_000 });
  const late = await submit('spin', { ms: 60_000 }, { timeout_seconds: 1, max_attempts: 1 });
  const ends = [ended(cancelled), ended(late)];
  await Promise.all([runs(cancelled), runs(late)]);
  await errand.actions.cancel.cancel(cancelled);
  await Promise.all(ends);
  const [first, second] = [await facts(cancelled), await facts(late)];
  assert.deepEqual(
    [first.state, first.error],
    ['cancelled', 'the thread was ended: it did not stop within 500 ms'],
  );
  assert.deepEqual([second.state, second.class], ['dead', 'timeout']);
  const after = await Promise.all([submit('spin', { ms: 1 }), submit('spin', { ms: 1 })]);
  await Promise.all(after.map(ended));
  for (const id of after) assert.equal((await facts(id)).state, 'succeeded');
});

test('a thread that crashes fails its own job, which is tried again, and no other', async () => {
  const neighbour = await submit('spin', { ms: 1_500 });
  await runs(neighbour);
  for (const [how, why] of [
    ['exit', /the thread was ended: .*exited with code: 3/],
    ['throw', /the thread was ended: outside of any promise/],
  ] as const) {
    const failed = errand.next('job.ended', ({ outcome }) => outcome === 'retry');
    const id = await submit('crash', how, {
      backoff: JSON.stringify({ strategy: 'fixed', base_seconds: 0.3 }),
    });
    const { job_id, class: cause } = await failed;
    assert.deepEqual([job_id, cause], [id, 'retryable']);
    assert.match((await facts(id)).error ?? '', why);
    assert.equal((await ended(id)).outcome, 'succeeded');
  }
  await until(async () => (await facts(neighbour)).state === 'succeeded');
  assert.equal((await facts(neighbour)).attempt, 1);
});

test('no more jobs are taken than there are threads: the others are left to whoever is free', async () => {
  const ids = await Promise.all([1, 2, 3].map(() => submit('spin', { ms: 60_000, looks: true })));
  const states = async () => (await Promise.all(ids.map(facts))).map((job) => job.state).sort();
  await until(async () => (await states()).join() === 'queued,running,running');
  const done = ids.map(ended);
  await Promise.all(ids.map((id) => errand.actions.cancel.cancel(id)));
  await Promise.all(done);
});

test('a drain gives the jobs of threads back without costing an attempt, whatever the threads do', async () => {
  const second = await startErrand({
    databaseUrl: errand.databaseUrl,
    env: { ERRAND_HANDLERS_DIR: folder, ERRAND_HANDLER_THREADS: '1', ERRAND_DRAIN_DEADLINE_SECONDS: '3' },
  });
  const blockers = await Promise.all([1, 2, 3].map(() => submit('spin', { ms: 60_000 })));
  await Promise.all(blockers.map(runs));
  await second.drain(true);
  const jobs = await Promise.all(blockers.map(facts));
  const back = jobs.filter((job) => job.state === 'queued');
  assert.deepEqual(
    back.map((job) => [job.attempt, job.epoch]),
    [[0, 1]],
  );
  const done = blockers.map(ended);
  await Promise.all(blockers.map((id) => errand.actions.cancel.cancel(id)));
  await Promise.all(done);
});

test('a handler that asks for a thread and comes from no module is refused at the start', async () => {
  const handlers = [defineHandler({ type: 'nowhere', thread: true, run: () => 1 })];
  const { databaseUrl } = errand;
  await assert.rejects(startErrand({ databaseUrl, handlers }), /the handler of "nowhere" asks for a thread/);
});

test('no invariant was violated on the way', async () => {
  const text = await (await fetch(`${errand.url}/metrics`)).text();
  assert.match(text, /^errand_invariant_violations_total 0$/m);
});
