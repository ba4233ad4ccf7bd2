// When a worker asks for jobs: of a backlog the next are on their way while handlers run, and never more than slots.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Claim, Job } from '../../src/actions/claim.ts';
import { Ready } from '../../src/actions/ready.ts';
import { Heads } from '../../src/domain/heads.ts';
import { worker } from '../../src/roles/worker/worker.ts';
import type { Pool } from '../../src/store/db.ts';
import type { Lanes } from '../../src/store/lanes.ts';

/** A worker whose claims bring `brought` jobs, one number for each; it tells what it did, in order, until they are used up. */
async function deeds({ slots, brought }: { slots: number; brought: number[] }): Promise<string[]> {
  const heads = new Heads();
  const log: string[] = [];
  const { promise: usedUp, resolve } = Promise.withResolvers<void>();
  let next = 1;
  const claim: Claim = async ({ want }) => {
    log.push(`asked for ${want}`);
    const count = brought.shift();
    if (count === undefined) {
      // Handlers that were to run have run by then.
      setTimeout(resolve, 5);
      return [];
    }
    return Array.from({ length: count }, () => aJob(String(next++)));
  };
  const runner = worker({
    name: 'handlers',
    db: {} as Pool,
    claim,
    ready: new Ready({ heads, notify: async () => {}, meet: () => undefined, onError: fail }),
    heads,
    lanes: { count: 0, all: () => [] } as unknown as Lanes,
    serves: () => true,
    owner: () => 1,
    concurrency: slots,
    lease_seconds: 30,
    execute: ({ job }) => {
      log.push(`ran ${job.job_id}`);
      return { kind: 'succeeded', result: null, created_uri: null };
    },
    handOver: async () => null,
    source: 'handler',
    settle: async () => null,
    random: Math.random,
    onError: (_, error) => fail(error),
  });
  await runner.start();
  await usedUp;
  await runner.stop(performance.now() + 10_000);
  return log;
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
