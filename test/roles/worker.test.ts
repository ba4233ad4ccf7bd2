// Handlers inside the process: what they return, throw and ignore, and what a drain, a cancel, a deadline or a lost lease
// does to them.
import assert from 'node:assert/strict';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import pg from 'pg';
import type { Submission } from '../../src/actions/submit.ts';
import { defineHandler, type HandlerContext, JobError } from '../../src/errand.ts';
import { loadHandlers } from '../../src/roles/worker/handlers.ts';
import { aSubmission, startErrand, type TestErrand } from '../support/errand.ts';
import { until } from '../support/until.ts';

const fixed = JSON.stringify({ strategy: 'fixed', base_seconds: 0.05, cap_seconds: 1, jitter: 'none' });
const seen = new Map<string, HandlerContext[]>();
const started = new Map<string, () => void>();
const lost = Promise.withResolvers<void>();
const reports: unknown[] = [];
let errand: TestErrand;

function told(context: HandlerContext): number {
  const contexts = [...(seen.get(context.job_id) ?? []), context];
  seen.set(context.job_id, contexts);
  started.get(context.job_id)?.();
  return contexts.length;
}

function untilAborted(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason), { once: true });
  });
}

const circle: unknown[] = [];
circle.push(circle);
const unfit = [1n, circle, () => {}, Symbol('secret'), 'x'.repeat(300_000)];

before(async () => {
  errand = await startErrand({
    handlers: [
      defineHandler({ type: 'echo', run: (payload) => payload }),
      defineHandler({ type: 'nothing', run: () => undefined }),
      defineHandler({
        type: 'flaky',
        run: (_, context) => {
          if (told(context) < 3) throw new Error('not yet');
          return context.attempt;
        },
      }),
      defineHandler({
        type: 'broken',
        run: () => {
          throw new JobError('permanent', 'this can never work');
        },
      }),
      defineHandler({
        type: 'odd-class',
        run: () => {
          throw new JobError('nonsense' as 'permanent', 'x');
        },
      }),
      defineHandler({
        type: 'odd-message',
        run: () => {
          throw Object.assign(new Error('x'), { message: { a: 1 } });
        },
      }),
      defineHandler({ type: 'stuck', run: () => new Promise(() => {}) }),
      defineHandler({
        type: 'patient',
        run: (_, context) => {
          told(context);
          return untilAborted(context.signal);
        },
      }),
      defineHandler({ type: 'slow', run: () => new Promise((resolve) => setTimeout(resolve, 4_500)) }),
      defineHandler({ type: 'no-json', run: (n) => unfit[n as number] }),
      defineHandler({ type: 'huge', run: () => 'x'.repeat(300_000) }),
      defineHandler({
        type: 'chatty',
        async run(payload, { progress, checkpoint }) {
          for (let n = 1; n <= 1_000; n++) progress({ current: n });
          await checkpoint(null);
          progress('nearly');
          progress('done');
          if (payload === 'unfit') for (const value of unfit) progress(value);
          if (payload === 'unfit checkpoint') await checkpoint(1n);
        },
      }),
      defineHandler({
        type: 'walker',
        async run(_, { last_checkpoint, checkpoint, attempt }) {
          await checkpoint({ steps: attempt, before: last_checkpoint });
          if (attempt < 3) throw new Error('tired');
          return last_checkpoint;
        },
      }),
      defineHandler({
        type: 'late-reporter',
        async run(_, context) {
          told(context);
          await lost.promise;
          await context.checkpoint('too late').catch((error) => reports.push(error.message));
          context.progress('too late');
          reports.push(context.signal.aborted);
        },
      }),
      defineHandler({
        type: 'any-media',
        run: (payload, { content_type, traceparent }) => ({
          payload: payload instanceof Uint8Array ? [...payload] : payload,
          content_type,
          traceparent,
        }),
      }),
    ],
  });
});

after(() => errand.stop());

async function submit(over: Parameters<typeof aSubmission>[0]): Promise<string> {
  return (await errand.actions.submit(aSubmission(over))).id;
}

function ended(id: string) {
  return errand.next(
    'job.ended',
    (event) => event.job_id === id && event.outcome !== 'retry' && event.outcome !== 'lost',
  );
}

async function facts(id: string) {
  const job = await errand.actions.inspect.job(id);
  assert.ok(job);
  return job;
}

function running(id: string): Promise<void> {
  return new Promise((resolve) => {
    if (seen.has(id)) resolve();
    else started.set(id, resolve);
  });
}

/** What a rescue elsewhere does between two heartbeats of the holder. */
async function lose(id: string): Promise<void> {
  const client = new pg.Client({ connectionString: errand.databaseUrl });
  await client.connect();
  await client.query(
    `with l as (delete from errand.lease where $1 = any(ids) returning *)
     insert into errand.outcome (job_id, epoch, attempt, lane, prio, worker, started_at, status, class, source)
     select $1, epoch, attempt, lane, prio, owner, started_at, 'dead', 'lost', 'errand' from l`,
    [id],
  );
  await client.end();
}

test('what a handler returns is the result', async () => {
  const id = await submit({ type: 'echo', payload: '{"a":[1,2]}' });
  await ended(id);
  assert.deepEqual(await errand.actions.inspect.result(id), { result: '{"a":[1,2]}', created_uri: null });
});

test('a handler that returns nothing leaves no result', async () => {
  const id = await submit({ type: 'nothing' });
  await ended(id);
  const job = await facts(id);
  assert.equal(job.state, 'succeeded');
  assert.equal(job.has_result, false);
});

test('a handler that throws is tried again after its backoff, with a new epoch each time', async () => {
  const id = await submit({ type: 'flaky', backoff: fixed });
  assert.equal((await ended(id)).outcome, 'succeeded');
  assert.deepEqual(
    seen.get(id)?.map(({ attempt, epoch }) => ({ attempt, epoch })),
    [1, 2, 3].map((n) => ({ attempt: n, epoch: n })),
  );
});

test('a job is dead when its attempts are spent', async () => {
  const id = await submit({ type: 'flaky', backoff: fixed, max_attempts: 2 });
  assert.equal((await ended(id)).outcome, 'dead');
  const job = await facts(id);
  assert.deepEqual(
    [job.state, job.attempt, job.class, job.source, job.error],
    ['dead', 2, 'retryable', 'handler', 'not yet'],
  );
});

test('a permanent error ends a job at its first attempt', async () => {
  const id = await submit({ type: 'broken' });
  await ended(id);
  const job = await facts(id);
  assert.deepEqual([job.state, job.attempt, job.class], ['dead', 1, 'permanent']);
});

test('a handler that ignores its deadline ends as timeout and frees its slot', async () => {
  const id = await submit({ type: 'stuck', timeout_seconds: 1, max_attempts: 1 });
  await ended(id);
  const job = await facts(id);
  assert.deepEqual([job.state, job.class], ['dead', 'timeout']);
});

test('a result beyond the limit is a permanent failure, not a crash', async () => {
  const id = await submit({ type: 'huge' });
  assert.equal((await ended(id)).outcome, 'dead');
  assert.match((await facts(id)).error ?? '', /larger than 262144 bytes/);
});

test('a cancel reaches a running handler, and no new attempt starts', async () => {
  const id = await submit({ type: 'patient', backoff: fixed });
  await running(id);
  const end = ended(id);
  assert.deepEqual(await errand.actions.cancel.cancel(id), { kind: 'requested' });
  assert.equal((await end).outcome, 'cancelled');
  assert.equal((await facts(id)).state, 'cancelled');
  assert.equal(seen.get(id)?.length, 1);
});

test('a handler that ignores a cancel loses its slot at its deadline', async () => {
  const id = await submit({ type: 'stuck', timeout_seconds: 2, max_attempts: 1 });
  await until(async () => (await facts(id)).state === 'running');
  const end = ended(id);
  assert.deepEqual(await errand.actions.cancel.cancel(id), { kind: 'requested' });
  assert.equal((await end).outcome, 'cancelled');
  assert.equal((await facts(id)).error, 'the attempt ran longer than timeout_seconds');
});

test('whatever a handler throws is an ordinary failure', async () => {
  for (const type of ['odd-class', 'odd-message']) {
    const id = await submit({ type, max_attempts: 1, timeout_seconds: 30 });
    assert.equal((await ended(id)).outcome, 'dead');
    const job = await facts(id);
    assert.deepEqual([job.class, job.source], ['retryable', 'handler']);
  }
});

test('a lease that was taken away aborts its handler, and what it brings is dropped', async () => {
  const id = await submit({ type: 'patient', max_attempts: 1 });
  await running(id);
  const signal = seen.get(id)?.[0]?.signal as AbortSignal;
  const aborted = new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }));
  await lose(id);
  await aborted;
  const job = await facts(id);
  assert.deepEqual([job.state, job.class], ['dead', 'lost']);
});

test('progress is written now and then, however often it is said, and the last of it before the end', async () => {
  let written = 0;
  const off = errand.events.on('job.progressed', () => written++);
  const id = await submit({ type: 'chatty' });
  await ended(id);
  off();
  assert.equal((await facts(id)).progress, '"done"');
  assert.ok(written <= 3, `${written} writes`);
});

test('a progress that is too large or no JSON is dropped and told once, and the work goes on', async () => {
  const told: string[] = [];
  const off = errand.events.on('progress.dropped', ({ job_id, why }) => told.push(`${job_id} ${why}`));
  const id = await submit({ type: 'chatty', payload: '"unfit"' });
  await ended(id);
  off();
  const job = await facts(id);
  assert.deepEqual([job.state, job.progress], ['succeeded', '"done"']);
  assert.deepEqual(told, [`${id} is no value that JSON has`]);
});

test('a checkpoint that is no JSON throws, because it is awaited', async () => {
  const id = await submit({ type: 'chatty', payload: '"unfit checkpoint"' });
  await ended(id);
  const job = await facts(id);
  assert.deepEqual([job.state, job.class], ['dead', 'permanent']);
  assert.equal(job.error, 'the checkpoint is no value that JSON has');
});

test('a result that is no JSON ends the job at its first attempt', async () => {
  for (const n of unfit.keys()) {
    const id = await submit({ type: 'no-json', payload: String(n) });
    await ended(id);
    const job = await facts(id);
    assert.deepEqual([job.state, job.class, job.attempt], ['dead', 'permanent', 1]);
    assert.match(job.error ?? '', /^the result is (not JSON|larger than 262144 bytes)$/);
  }
});

test('a checkpoint is kept when its promise resolves, and goes to the next attempt', async () => {
  const id = await submit({ type: 'walker', backoff: fixed });
  await ended(id);
  assert.deepEqual(JSON.parse((await errand.actions.inspect.result(id))?.result ?? ''), {
    steps: 2,
    before: { steps: 1, before: null },
  });
});

test('a report that finds the lease gone aborts the signal: a checkpoint throws, progress does not', async () => {
  const id = await submit({ type: 'late-reporter', max_attempts: 1 });
  await running(id);
  await lose(id);
  lost.resolve();
  await until(() => reports.length === 2);
  assert.deepEqual(reports, ['the lease was lost', true]);
});

test('a handler is handed the value of JSON, the text of a text, and bytes', async () => {
  const traceparent = '00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01';
  const cases: [string, Submission['options'], unknown][] = [
    ['{"a":1}', null, { payload: { a: 1 }, content_type: 'application/json', traceparent: null }],
    ['a,b', { content_type: 'text/csv' }, { payload: 'a,b', content_type: 'text/csv', traceparent: null }],
    [
      'AP8=',
      { content_type: 'image/png', payload_base64: true, traceparent },
      { payload: [0, 255], content_type: 'image/png', traceparent },
    ],
  ];
  for (const [payload, options, expected] of cases) {
    const id = await submit({ type: 'any-media', payload, options });
    await ended(id);
    assert.deepEqual(JSON.parse((await errand.actions.inspect.result(id))?.result ?? ''), expected);
  }
});

test('leases are renewed by our own clock, however wrong it is against the database’s', async () => {
  const database = new pg.Client({ connectionString: errand.databaseUrl });
  await database.connect();
  // The database's clock runs five minutes ahead of this process.
  await database.query(
    `create or replace function errand.now() returns timestamptz language sql stable
     as 'select now() + interval ''5 minutes'''`,
  );
  try {
    const id = await submit({ type: 'slow' });
    assert.equal((await ended(id)).epoch, 1);
  } finally {
    await database.query(
      `create or replace function errand.now() returns timestamptz language sql stable as 'select now()'`,
    );
    await database.end();
  }
});

test('a drain gives running jobs back without costing an attempt, but for those that have only one', async () => {
  const second = await startErrand({
    databaseUrl: errand.databaseUrl,
    env: { ERRAND_DRAIN_DEADLINE_SECONDS: '3' },
    handlers: [
      defineHandler({
        type: 'long',
        run: (_, context) => {
          told(context);
          return untilAborted(context.signal);
        },
      }),
    ],
  });
  const id = (await second.actions.submit(aSubmission({ type: 'long' }))).id;
  const once = (await second.actions.submit(aSubmission({ type: 'long', max_attempts: 1 }))).id;
  await Promise.all([running(id), running(once)]);
  await second.drain(true);
  const job = await facts(id);
  assert.deepEqual([job.state, job.attempt, job.epoch], ['queued', 0, 1]);
  const ended = await facts(once);
  assert.deepEqual(
    [ended.state, ended.class, ended.source],
    ['dead', 'lost', 'errand'],
    'it must not run twice',
  );
});

test('a handler in any folder can import "errand"', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'errand-handlers-'));
  writeFileSync(
    join(folder, 'greet.ts'),
    `import { defineHandler } from 'errand';\nexport default defineHandler({ type: 'greet', run: () => 'hello' });\n`,
  );
  const handlers = await loadHandlers(folder);
  assert.deepEqual([...handlers.keys()], ['greet']);
});

test('no invariant was violated on the way', async () => {
  const text = await (await fetch(`${errand.url}/metrics`)).text();
  assert.match(text, /^errand_invariant_violations_total 0$/m);
});
