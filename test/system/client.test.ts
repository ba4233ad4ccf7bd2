// The TypeScript client against a real service: what a caller is told, what a worker does, and what becomes of both when
// something on the way takes headers away, cuts a stream or does not answer.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { after, describe, test } from 'node:test';
import {
  Errand,
  ErrandProblem,
  type Handler,
  type JobEvent,
  JobFailed,
  type Run,
  Stripped,
  UnexpectedAnswer,
  Worker,
} from '../../clients/typescript/src/index.ts';
import { defineHandler, JobError } from '../../src/errand.ts';
import { startErrand } from '../support/errand.ts';
import { until } from '../support/until.ts';

const service = await startErrand({
  handlers: [
    defineHandler({ type: 'double', run: (payload) => 2 * (payload as number) }),
    defineHandler({ type: 'silent', run: () => undefined }),
    defineHandler({
      type: 'broken',
      run: () => {
        throw new JobError('permanent', 'it never works');
      },
    }),
  ],
});
after(() => service.stop());
const errand = new Errand({ url: service.url });

/** A client behind something that meddles with its requests or their answers. */
function behind(meddle: (input: string, init: RequestInit, attempt: number) => Promise<Response>): Errand {
  let attempt = 0;
  return new Errand({
    url: service.url,
    fetch: (input, init) => meddle(String(input), init ?? {}, ++attempt),
  });
}

function without(init: RequestInit, ...names: string[]): RequestInit {
  const headers = new Headers(init.headers);
  for (const name of names) headers.delete(name);
  return { ...init, headers };
}

/** The error a promise fails with. */
async function failureOf<T extends Error>(
  promise: Promise<unknown>,
  kind: new (...words: never[]) => T,
): Promise<T> {
  const error = await promise.then(
    () => assert.fail('nothing was thrown'),
    (thrown: unknown) => thrown,
  );
  assert.ok(error instanceof kind, String(error));
  return error;
}

describe('a caller', () => {
  test('submits, is told where the job is, and follows it to its result', async () => {
    const accepted = await errand.submit<number>({ type: 'double', payload: 21 });
    assert.deepEqual([accepted.kind, accepted.stripped, accepted.replayed], ['accepted', false, false]);
    assert.equal(accepted.mode, 'async;expect=none');
    assert.equal(accepted.job.type, 'double');
    const { result, created } = await accepted.follow();
    assert.deepEqual([result, created], [42, null]);
    assert.equal((await errand.status(accepted.id)).state, 'succeeded');
    assert.equal((await errand.job(accepted.id, { include: 'payload' })).payload, 21);
  });

  test('demands the outcome and gets it in every form', async () => {
    for (const expect of ['200-ok', '201-created', '204-no-content'] as const) {
      const done = await errand.submit<number>({ type: 'double', payload: 4 }, { expect });
      assert.deepEqual([done.kind, done.result], ['done', expect === '204-no-content' ? undefined : 8]);
      const none = await errand.submit({ type: 'silent' }, { expect });
      assert.deepEqual([none.result, none.created], [undefined, null], expect);
      assert.equal((await errand.status(none.id)).state, 'succeeded');
    }
  });

  test('learns what was created, with a result and without', async () => {
    for (const result of [undefined, { made: true }]) {
      for (const expect of ['200-ok', '201-created', '204-no-content', undefined] as const) {
        const queue = `created-${crypto.randomUUID()}`;
        const waiting = errand.submit({ type: 'made', queue }, { wait: 5, ...(expect && { expect }) });
        await completeNext(queue, { created: 'https://a.example/7', ...(result && { result }) });
        const done = await waiting;
        assert.ok(done.kind === 'done');
        assert.equal(done.created, 'https://a.example/7');
        assert.deepEqual(done.result, expect === '204-no-content' ? undefined : result);
      }
    }
  });

  test('wishes to wait, and is told which of the two it got', async () => {
    const done = await errand.submit<number>({ type: 'double', payload: 1 }, { wait: 5 });
    assert.ok(done.kind === 'done' && done.result === 2);
    const accepted = await errand.submit({ type: 'nobody' }, { wait: 1 });
    assert.ok(accepted.kind === 'accepted' && !accepted.stripped);
    assert.equal(accepted.mode, 'soft;wait=1');
  });

  test('is told by the same error that a job failed, whether it demanded the outcome or followed the job', async () => {
    const demanded = await failureOf(errand.submit({ type: 'broken' }, { expect: '200-ok' }), ErrandProblem);
    const accepted = await errand.submit({ type: 'broken' });
    const followed = await failureOf(accepted.follow(), ErrandProblem);
    for (const { code, status, problem } of [demanded, followed]) {
      assert.deepEqual([code, status, problem.job?.state], ['job-failed', 422, 'dead']);
      assert.match(problem.detail, /it never works/);
    }
    const cancelled = await errand.submit({ type: 'nobody' });
    assert.equal((await errand.cancel(cancelled.id)).cancelled, true);
    assert.equal((await failureOf(cancelled.follow(), ErrandProblem)).code, 'job-cancelled');
    assert.equal((await errand.wait(cancelled.id)).state, 'cancelled');
  });

  test('is told what is wrong with a request, and whether anything ran when a demand ran out', async () => {
    // @ts-expect-error: the types refuse it too
    const wrong = await failureOf(errand.submit({ payload: 1, priority: '5' }), ErrandProblem);
    assert.deepEqual([wrong.code, wrong.retryable], ['validation-failed', false]);
    assert.deepEqual(wrong.problem.errors?.map(({ pointer }) => pointer).sort(), ['#/priority', '#/type']);
    const late = await failureOf(
      errand.submit({ type: 'nobody' }, { expect: '200-ok', wait: 1 }),
      ErrandProblem,
    );
    assert.deepEqual([late.code, late.problem.executed], ['expectation-timeout', false]);
    assert.equal((await failureOf(errand.status('9999999'), ErrandProblem)).code, 'not-found');
  });

  test('notices a demand that was lost on the way, and keeps the job', async () => {
    const stripping = behind((url, init) => fetch(url, without(init, 'errand-expect', 'prefer')));
    const error = await failureOf(
      stripping.submit({ type: 'double', payload: 3 }, { expect: '200-ok' }),
      Stripped,
    );
    assert.match(error.message, /async;expect=none/);
    assert.equal((await (error.accepted as { follow(): Promise<{ result: unknown }> }).follow()).result, 6);
    const wished = await stripping.submit({ type: 'double', payload: 3 }, { wait: 5 });
    assert.ok(wished.kind === 'accepted' && wished.stripped);
    const silenced = behind(async (url, init) => {
      const answer = await fetch(url, without(init, 'errand-expect', 'prefer'));
      const headers = new Headers(answer.headers);
      headers.delete('errand-mode');
      return new Response(answer.body, { status: answer.status, headers });
    });
    const unsaid = await failureOf(silenced.submit({ type: 'double' }, { expect: '200-ok' }), Stripped);
    assert.match(unsaid.message, /no Errand-Mode/);
  });

  test('knows an answer that is none of Errand: a proxy is on the way', async () => {
    const walled = behind(async () => new Response('<h1>Expectation Failed</h1>', { status: 417 }));
    const error = await failureOf(walled.submit({ type: 'double' }), UnexpectedAnswer);
    assert.deepEqual([error.status, error.text], [417, '<h1>Expectation Failed</h1>']);
  });

  test('repeats what nobody answered, and under a key it is one job', async () => {
    const shaky = behind(async (url, init, attempt) => {
      if (attempt === 1) throw new TypeError('fetch failed');
      const answer = await fetch(url, init);
      // The job is stored, but the answer does not arrive.
      if (attempt === 2) throw new TypeError('terminated');
      if (attempt === 3) return new Response('busy', { status: 502 });
      return answer;
    });
    const accepted = await shaky.submit({ type: 'double', payload: 5 }, { idempotencyKey: 'shaky' });
    assert.equal(accepted.replayed, true);
    const again = await errand.submit({ type: 'double', payload: 5 }, { idempotencyKey: 'shaky' });
    assert.equal(again.id, accepted.id);
    const other = errand.submit({ type: 'double', payload: 6 }, { idempotencyKey: 'shaky' });
    assert.equal((await failureOf(other, ErrandProblem)).code, 'idempotency-key-reused');
    const once = behind(async () => {
      throw new TypeError('fetch failed');
    });
    await failureOf(once.submit({ type: 'double', payload: 5 }), TypeError);
  });

  test('is told at once of a payload that is no JSON, and nothing is sent', async () => {
    let calls = 0;
    const counting = behind((url, init) => {
      calls++;
      return fetch(url, init);
    });
    const cyclic: { self?: unknown } = {};
    cyclic.self = cyclic;
    const began = performance.now();
    for (const payload of [cyclic, 1n]) {
      const job = { type: 'double', payload };
      await failureOf(counting.submit(job, { idempotencyKey: 'none' }), TypeError);
      await failureOf(counting.submitMany([job], { idempotencyKey: 'none' }), TypeError);
    }
    assert.equal(calls, 0);
    assert.ok(performance.now() - began < 10_000, 'it was repeated');
  });

  test('waits with few calls: each is held until something changes', async () => {
    let calls = 0;
    const counting = behind((url, init) => {
      calls++;
      return fetch(url, init);
    });
    const { id } = await errand.submit({ type: 'double', payload: 1, delay_seconds: 2 });
    assert.equal((await counting.wait(id)).state, 'succeeded');
    assert.ok(calls >= 2 && calls <= 6, `${calls} calls`);
  });

  test('asks no faster than Retry-After where nothing holds its calls, and stops when it is told to', async () => {
    const times: number[] = [];
    const unheld = behind((url, init) => {
      times.push(performance.now());
      return fetch(url, without(init, 'prefer'));
    });
    const { id } = await errand.submit({ type: 'nobody' });
    const signal = AbortSignal.timeout(2_500);
    await assert.rejects(unheld.wait(id, { signal }), { name: 'TimeoutError' });
    assert.ok(times.length >= 2 && times.length <= 5, `${times.length} calls`);
  });

  test('submits many at once and lists them all, page by page', async () => {
    const queue = 'many';
    const jobs = await errand.submitMany(
      Array.from({ length: 250 }, (_, i) => ({ type: 'nobody', queue, payload: i })),
      { idempotencyKey: 'many' },
    );
    const listed: string[] = [];
    for await (const job of errand.list({ queue, type: undefined })) listed.push(job.id);
    assert.equal(listed.length, 250);
    assert.deepEqual(listed.sort(), jobs.map(({ id }) => id).sort());
    for await (const job of errand.list({ queue, state: 'running' })) assert.fail(job.id);
  });

  test('runs a dead job again', async () => {
    const accepted = await errand.submit({ type: 'broken' });
    await errand.wait(accepted.id);
    const repeated = await errand.retry(accepted.id);
    assert.equal(repeated.retry_of, accepted.id);
    assert.equal((await errand.wait(repeated.id)).state, 'dead');
  });
});

describe('the events of a job', () => {
  const named = (events: JobEvent[]) => events.map(({ id, event }) => `${id} ${event}`);

  test('come in order until it has ended', async () => {
    const { id } = await errand.submit({ type: 'double', payload: 1, delay_seconds: 1 });
    const events: JobEvent[] = [];
    for await (const event of errand.events(id)) events.push(event);
    assert.deepEqual(named(events), ['1 state', '2 state', '3 done']);
    assert.equal(events.at(-1)?.data.state, 'succeeded');
    const rest: JobEvent[] = [];
    for await (const event of errand.events(id, { after: '2' })) rest.push(event);
    assert.deepEqual(named(rest), ['3 done']);
    for await (const event of errand.events(id, { after: '3' })) assert.fail(event.id);
  });

  test('are each given once, although the stream is cut after every few bytes', async () => {
    let streams = 0;
    const cutting = behind(async (url, init) => {
      const answer = await fetch(url, init);
      streams++;
      const head = (await answer.text()).split('\n\n').slice(0, 2).join('\n\n');
      // In the middle of a block, and with a wait short enough for a test.
      const text = `${head.replace(/retry: \d+/, 'retry: 10')}\n\nid: 99\neve`;
      return new Response(text, { status: answer.status, headers: answer.headers });
    });
    const { id } = await errand.submit({ type: 'double', payload: 1 });
    await errand.wait(id);
    const events: JobEvent[] = [];
    for await (const event of cutting.events(id)) events.push(event);
    assert.deepEqual(named(events), ['1 state', '2 state', '3 done']);
    assert.equal(streams, 3);
  });

  test('end when the reader has had enough', async () => {
    const { id } = await errand.submit({ type: 'nobody' });
    for await (const event of errand.events(id)) {
      assert.equal(event.id, '1');
      break;
    }
    await assert.rejects(async () => {
      for await (const _ of errand.events(id, { signal: AbortSignal.timeout(300) }));
    }, /timeout/i);
  });
});

describe('a worker', () => {
  test('runs jobs side by side, with what it is told of each, and shows how far it is', async (t) => {
    const seen: Run[] = [];
    const together = Promise.withResolvers<void>();
    const queue = startWorker(t, {
      slots: 3,
      handler: async (payload: { n: number }, run) => {
        seen.push(run);
        if (seen.length === 3) together.resolve();
        await run.progress({ current: payload.n, total: 3 });
        await run.keep({ at: payload.n });
        // None of them ends before all of them run.
        await together.promise;
        return payload.n * 10;
      },
    });
    const jobs = await Promise.all(
      [1, 2, 3].map((n) => errand.submit({ type: 'work', queue, payload: { n } })),
    );
    await errand.submit({ type: 'double', payload: 0 });
    const results = await Promise.all(jobs.map(async (job) => (await job.follow()).result));
    assert.deepEqual(results, [10, 20, 30]);
    assert.deepEqual(
      [seen[0]?.queue, seen[0]?.type, seen[0]?.attempt, seen[0]?.epoch, seen[0]?.checkpoint],
      [queue, 'work', 1, 1, null],
    );
    const record = await errand.job(jobs[1]?.id ?? '');
    assert.deepEqual(record.progress, { current: 2, total: 3 });
  });

  test('says what kind of failure it was, and goes on from the checkpoint of the start before', async (t) => {
    const queue = startWorker(t, {
      handler: async (payload: string, run) => {
        if (payload === 'wrong') throw new JobFailed('permanent', 'the input is wrong');
        if (payload === 'busy') throw new JobFailed('rate_limited', 'too fast', { retryAfterSeconds: 600 });
        if (payload === 'huge') return 'x'.repeat(300_000);
        if (run.checkpoint !== null) return run.checkpoint;
        await run.keep({ half: true });
        throw new Error('a passing trouble');
      },
    });
    const backoff = { strategy: 'fixed', base_seconds: 0, jitter: 'none' } as const;
    const ask = (payload: string) => errand.submit({ type: 'work', queue, payload, backoff });
    const [wrong, busy, huge, twice] = [
      await ask('wrong'),
      await ask('busy'),
      await ask('huge'),
      await ask(''),
    ];
    assert.deepEqual((await twice.follow()).result, { half: true });
    for (const [job, text] of [
      [wrong, 'the input is wrong'] as const,
      [huge, 'refused: payload-too-large'] as const,
    ]) {
      const { error, state } = await errand.wait(job.id);
      assert.deepEqual([state, error?.class, error?.source], ['dead', 'permanent', 'worker']);
      assert.match(error?.detail ?? '', new RegExp(text));
    }
    const { error, state } = await errand.status(busy.id);
    assert.deepEqual([state, error?.class], ['retrying', 'rate_limited']);
  });

  test('fails at once, for good, a job whose result is no JSON', async (t) => {
    const cyclic: { self?: unknown } = {};
    cyclic.self = cyclic;
    const results = [cyclic, 1n, () => {}, { toJSON: () => assert.fail('never') }];
    const ends: [string, unknown][] = [];
    const queue = startWorker(t, {
      handler: (n: number) => results[n],
      onEnd: (_, how, error) => ends.push([how, error]),
    });
    const jobs = await errand.submitMany(results.map((_, payload) => ({ type: 'work', queue, payload })));
    for (const { id } of jobs) {
      const { state, attempt, error } = await errand.wait(id);
      assert.deepEqual([state, attempt, error?.class], ['dead', 1, 'permanent']);
      assert.match(error?.detail ?? '', /the result is not JSON/);
    }
    const next = await errand.submit({ type: 'work', queue, payload: 4 });
    await next.follow();
    const told = ends.slice(0, results.length);
    assert.ok(
      told.every(([how, error]) => how === 'fail' && error instanceof Error),
      String(told),
    );
  });

  test('tells of a failure whatever was thrown, and cuts its message at a whole character', async (t) => {
    const beaver = '\u{1f9ab}';
    const thrown = [
      new Error('a\u0000b\ud800c'),
      new JobFailed('permanent', `${'x'.repeat(1_999)}${beaver}`),
      new JobFailed('permanent', `${'x'.repeat(1_998)}${beaver}`),
      Object.create(null),
    ];
    const queue = startWorker(t, {
      handler: (n: number) => {
        throw thrown[n];
      },
    });
    const told: string[] = [];
    for (const payload of thrown.keys()) {
      const { id } = await errand.submit({ type: 'work', queue, payload, max_attempts: 1 });
      told.push((await errand.wait(id)).error?.detail ?? '');
    }
    const long = 'x'.repeat(1_998);
    assert.deepEqual(told, [
      'Error: ab\ufffdc',
      `${long}x`,
      `${long}${beaver}`,
      'what was thrown says nothing of itself',
    ]);
  });

  test('tells of a failure that is refused in plain words, and its owner of both errors', async (t) => {
    const ends: [string, unknown][] = [];
    const queue = startWorker(t, {
      handler: () => {
        throw new JobFailed('rate_limited', 'too fast', { retryAfterSeconds: -1 });
      },
      onEnd: (_, how, error) => ends.push([how, error]),
    });
    const { id } = await errand.submit({ type: 'work', queue, max_attempts: 1 });
    const { state, error } = await errand.wait(id);
    assert.deepEqual([state, error?.class], ['dead', 'retryable']);
    assert.match(error?.detail ?? '', /the failure was refused: validation-failed/);
    const [how, both] = await until(() => ends[0], { what: 'the end is told' });
    assert.ok(how === 'fail' && both instanceof AggregateError);
    assert.deepEqual(
      both.errors.map(({ name }: Error) => name),
      ['JobFailed', 'ErrandProblem'],
    );
  });

  test('says why nobody was told how a job ended', async (t) => {
    const through = behind((url, init) =>
      /complete|fail/.test(url) ? Promise.resolve(new Response('no', { status: 403 })) : fetch(url, init),
    );
    const ended = Promise.withResolvers<[string, unknown]>();
    const queue = startWorker(t, {
      through,
      handler: () => 1,
      onEnd: (_, how, error) => ended.resolve([how, error]),
    });
    await errand.submit({ type: 'work', queue, max_attempts: 1 });
    const [how, error] = await ended.promise;
    assert.ok(how === 'lost' && error instanceof UnexpectedAnswer && error.status === 403);
  });

  test('keeps a job that takes longer than its lease, and stops the work of one that is cancelled', async (t) => {
    const queue = startWorker(t, {
      slots: 2,
      leaseSeconds: 1,
      handler: async (payload: number, run) => {
        await gone(run.signal, payload);
        return run.epoch;
      },
    });
    const long = await errand.submit({ type: 'work', queue, payload: 2_500 });
    const endless = await errand.submit({ type: 'work', queue, payload: 60_000 });
    await errand.events(endless.id, { after: '1' }).next();
    assert.equal((await errand.cancel(endless.id)).cancelled, false);
    assert.equal((await errand.wait(endless.id)).state, 'cancelled');
    assert.equal((await long.follow()).result, 1);
  });

  test('drops what comes of a lease that is lost', async (t) => {
    const ends: string[] = [];
    const queue = startWorker(t, {
      leaseSeconds: 1,
      handler: (_: unknown, run) => gone(run.signal, 60_000),
      onEnd: (_, how) => ends.push(how),
    });
    const job = await errand.submit({ type: 'work', queue, timeout_seconds: 1, max_attempts: 1 });
    const { state, error } = await errand.wait(job.id);
    assert.deepEqual([state, error?.class], ['dead', 'timeout']);
    const next = await errand.submit({ type: 'work', queue, timeout_seconds: 1, max_attempts: 1 });
    await errand.wait(next.id);
    assert.equal(ends[0], 'lost');
  });

  test('stops: what ends in time is told, the rest is given back, and no attempt is spent', async () => {
    const queue = `stop-${crypto.randomUUID()}`;
    const handler: Handler = (payload: number, run) => gone(run.signal, payload).then(() => 'done');
    const worker = new Worker(errand, {
      queues: [queue],
      handlers: { work: handler },
      slots: 2,
      stopSeconds: 1,
    });
    const running = worker.run();
    const quick = await errand.submit({ type: 'work', queue, payload: 500 });
    const slow = await errand.submit({ type: 'work', queue, payload: 60_000 });
    await Promise.all([quick, slow].map(({ id }) => errand.events(id, { after: '1' }).next()));
    worker.stop();
    await running;
    assert.equal((await errand.status(quick.id)).state, 'succeeded');
    const { state, attempt } = await errand.status(slow.id);
    assert.deepEqual([state, attempt], ['queued', 0]);
    // Nobody takes it any more.
    const idle = new Worker(errand, { queues: ['nothing'], handlers: {} });
    idle.stop();
    await idle.run();
  });
});

test('a worker whose wish to wait is lost on the way asks about once a second', async () => {
  let calls = 0;
  const unheld = behind((url, init) => {
    calls++;
    return fetch(url, without(init, 'prefer'));
  });
  const worker = new Worker(unheld, { queues: ['nothing'], handlers: { work: () => {} } });
  const running = worker.run();
  await once(AbortSignal.timeout(2_500), 'abort');
  worker.stop();
  await running;
  assert.ok(calls >= 2 && calls <= 4, `${calls} calls`);
});

/** Resolves after so long; rejects with the reason when the signal aborts. */
async function gone(signal: AbortSignal, ms: number): Promise<void> {
  const over = new AbortController();
  const timer = setTimeout(() => over.abort(), ms);
  await Promise.race([once(over.signal, 'abort'), once(signal, 'abort')]);
  clearTimeout(timer);
  signal.throwIfAborted();
}

interface Started {
  handler: Handler;
  slots?: number;
  leaseSeconds?: number;
  onEnd?: (run: Run, how: string, error?: unknown) => void;
  /** Another client than the common one. */
  through?: Errand;
}

/** Starts a worker that ends with the test, and answers with the queue it works on. */
function startWorker(
  t: { after(hook: () => Promise<void>): void },
  { handler, through = errand, ...options }: Started,
): string {
  const queue = `worker-${crypto.randomUUID()}`;
  const worker = new Worker(through, {
    queues: [queue],
    handlers: { 'wor*': handler },
    stopSeconds: 0,
    ...options,
  });
  const running = worker.run();
  t.after(() => {
    worker.stop();
    return running;
  });
  return queue;
}

async function completeNext(queue: string, json: object): Promise<void> {
  const ask = { method: 'POST', json: { queues: [queue] }, headers: { Prefer: 'wait=5' } } as const;
  const { leases } = (await (await errand.caller.send('/v1/leases', ask)).json()) as {
    leases: { id: string }[];
  };
  await errand.caller.send(`/v1/leases/${leases[0]?.id}/complete`, { method: 'POST', json });
}
