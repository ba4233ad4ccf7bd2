// When a worker asks for jobs: of a backlog the next are on their way while handlers run, and never more than slots.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Job } from '../../src/actions/claim.ts';
import { Ready } from '../../src/actions/ready.ts';
import { Heads } from '../../src/domain/heads.ts';
import { type WorkerOptions, worker } from '../../src/roles/worker/worker.ts';
import type { Pool } from '../../src/store/db.ts';
import type { Lanes } from '../../src/store/lanes.ts';

/** A worker with `slots` that is idle but for what is given. */
function aWorker(slots: number, over: Partial<WorkerOptions> & Pick<WorkerOptions, 'claim' | 'execute'>) {
  const heads = new Heads();
  return worker({
    name: 'handlers',
    db: {} as Pool,
    ready: new Ready({ heads, notify: async () => {}, meet: () => undefined, onError: fail }),
    heads,
    lanes: { count: 0, all: () => [] } as unknown as Lanes,
    serves: () => true,
    owner: () => 1,
    concurrency: slots,
    lease_seconds: 30,
    handOver: async () => null,
    source: 'handler',
    settle: async () => null,
    random: Math.random,
    onError: (_, error) => fail(error),
    ...over,
  });
}

/** A worker whose claims bring `brought` jobs, one number for each; it tells what it did, in order, until they are used up. */
async function deeds({ slots, brought }: { slots: number; brought: number[] }): Promise<string[]> {
  const log: string[] = [];
  const { promise: usedUp, resolve } = Promise.withResolvers<void>();
  const next = numbered();
  const runner = aWorker(slots, {
    claim: async ({ want }) => {
      log.push(`asked for ${want}`);
      const count = brought.shift();
      if (count === undefined) {
        // Handlers that were to run have run by then.
        setTimeout(resolve, 5);
        return [];
      }
      return next(count);
    },
    execute: ({ job }) => {
      log.push(`ran ${job.job_id}`);
      return done;
    },
  });
  await runner.start();
  await usedUp;
  await runner.stop(performance.now() + 10_000);
  return log;
}

const done = { kind: 'succeeded', result: null, created_uri: null } as const;

/** Makes so many jobs more. */
function numbered(): (count: number) => Job[] {
  let last = 0;
  return (count) => Array.from({ length: count }, () => aJob(String(++last)));
}

function fail(error: unknown): never {
  throw error;
}

function aJob(job_id: string): Job {
  const started_at = new Date();
  return {
    ...{ job_id, lease: '1', epoch: 1, attempt: 1, lane: 1, prio: 5, owner: 1, max_attempts: 1, wait_ms: 0 },
    ...{
      started_at,
      until: started_at,
      deadline: new Date(started_at.getTime() + 60_000),
      created_at: started_at,
    },
    ...{
      expired: false,
      retry_until: null,
      backoff: null,
      options: null,
      callback: false,
      payload: 'null',
      checkpoint: null,
    },
    ...{ queue: 'default', type: 'noop' },
  };
}

test('of a backlog the next jobs are asked for before the handlers of the last have run', async () => {
  const log = await deeds({ slots: 300, brought: [150, 150] });
  assert.deepEqual(log.slice(0, 3), ['asked for 300', 'ran 1', 'ran 2']);

  const full = await deeds({ slots: 1_000, brought: [500, 500, 20] });
  assert.deepEqual(full.slice(0, 3), ['asked for 500', 'asked for 500', 'ran 1']);
});

test('no more jobs are asked for than slots are free', async () => {
  const log = await deeds({ slots: 700, brought: [500, 200] });
  assert.deepEqual(log.slice(0, 2), ['asked for 500', 'asked for 200']);
  assert.equal(log.filter((line) => line.startsWith('ran')).length, 700);
});

test('jobs whose end is being written are as many as there are slots at most, besides those at work', async () => {
  const log: string[] = [];
  const next = numbered();
  const written = Promise.withResolvers<null>();
  const over = Promise.withResolvers<void>();
  const runner = aWorker(10, {
    claim: async ({ want }) => {
      log.push(`asked for ${want}`);
      if (log.length < 3) return next(want);
      over.resolve();
      return [];
    },
    execute: ({ job }) => {
      // Longer than until the next claim, and than until the one after it where nothing held that back.
      if (job.job_id === '20') setTimeout(() => written.resolve(null), 50);
      return done;
    },
    settle: () => {
      void written.promise.then(() => log.includes('written') || log.push('written'));
      return written.promise;
    },
  });
  await runner.start();
  await over.promise;
  await runner.stop(performance.now() + 10_000);
  assert.deepEqual(log, ['asked for 10', 'asked for 10', 'written', 'asked for 10']);
});

for (const { ends, wanted } of [
  { ends: 2, wanted: 2 },
  { ends: 1, wanted: 1 },
]) {
  const what = ends === 2 ? 'when half of the slots are free' : 'after the gap between claims at the latest';
  test(`of a backlog the next jobs are asked for ${what}`, async (t) => {
    t.mock.timers.enable({ apis: ['setTimeout'] });
    t.mock.method(performance, 'now', () => 0);
    const turn = () => new Promise((resolve) => setImmediate(resolve));
    const log: string[] = [];
    const next = numbered();
    const works: (() => void)[] = [];
    const runner = aWorker(4, {
      claim: async ({ want }) => {
        log.push(`asked for ${want}`);
        return log.length === 1 ? next(want) : [];
      },
      execute: () => new Promise((resolve) => works.push(() => resolve(done))),
    });
    await runner.start();
    await turn();
    works[0]?.();
    await turn();
    // The round comes, and waits: a claim for one job would cost as much as one for two.
    t.mock.timers.tick(5);
    await turn();
    assert.deepEqual(log, ['asked for 4']);
    if (ends === 2) works[1]?.();
    else t.mock.timers.tick(5);
    await turn();
    assert.deepEqual(log, ['asked for 4', `asked for ${wanted}`]);
    for (const end of works) end();
    await runner.stop(0);
  });
}

test('a fault in the work costs its start and no slot', async () => {
  const faults: unknown[] = [];
  const wants: number[] = [];
  const next = numbered();
  const asked = Promise.withResolvers<void>();
  const runner = aWorker(3, {
    claim: async ({ want }) => {
      if (wants.push(want) < 3) return next(1);
      asked.resolve();
      return [];
    },
    execute: ({ job }) => {
      if (job.job_id === '1') throw new Error('a fault');
      return Promise.reject(new Error('another fault'));
    },
    onError: (_, error) => faults.push((error as Error).message),
  });
  await runner.start();
  await asked.promise;
  assert.equal(runner.running, 0);
  await runner.stop(performance.now() + 10_000);
  assert.deepEqual(
    [wants, faults],
    [
      [3, 3, 3],
      ['a fault', 'another fault'],
    ],
  );
});
