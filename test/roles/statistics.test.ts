// What is told of a queue is what its jobs say of themselves, and it comes without counting them.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import pg from 'pg';
import type { Column } from '../../src/actions/latency.ts';
import type { Figures } from '../../src/actions/statistics.ts';
import { defineHandler } from '../../src/errand.ts';
import { aSubmission, startErrand, type TestErrand } from '../support/errand.ts';
import { until } from '../support/until.ts';

let errand: TestErrand;
let client: pg.Client;
const held = Promise.withResolvers<void>();

const handlers = [
  defineHandler({ type: 'takes', run: (ms) => pause(ms as number) }),
  defineHandler({
    type: 'fails',
    run: () => {
      throw new Error('not today');
    },
  }),
  defineHandler({ type: 'held', run: () => held.promise }),
];

before(async () => {
  errand = await startErrand({ handlers });
  client = new pg.Client({ connectionString: errand.databaseUrl });
  await client.connect();
});

after(async () => {
  held.resolve();
  await client.end();
  await errand.stop();
});

const submit = (queue: string, over: Parameters<typeof aSubmission>[0] = {}) =>
  errand.actions.submit(aSubmission({ queue, ...over }));
const depthOf = async (queue: string) => (await errand.actions.statistics.of(queue)).depth;
interface LatencyAnswer {
  columns: Column[];
}
const none = { queued: 0, scheduled: 0, retrying: 0, running: 0, blocked: 0, dead: 0 };

test('the depth tells of jobs in every state where they stand', async () => {
  const queue = 'states';
  await submit(queue, { type: 'unserved' });
  const cancelled = await submit(queue, { type: 'unserved' });
  await submit(queue, { type: 'unserved', delay_ms: 3_600_000 });
  await submit(queue, { type: 'held' });
  await submit(queue, { type: 'fails', max_attempts: 1 });
  await submit(queue, {
    type: 'fails',
    max_attempts: 2,
    backoff: JSON.stringify({ strategy: 'fixed', base_seconds: 3_600, cap_seconds: 3_600, jitter: 'none' }),
  });
  await errand.actions.cancel.cancel(cancelled.id);
  const wanted = { ...none, queued: 1, scheduled: 1, running: 1, retrying: 1, dead: 1 };
  await until(async () => assert.deepEqual(await depthOf(queue), wanted) ?? true);
});

test('a job that is changed, moved and made due is counted where it is then', async () => {
  const { id } = await submit('from', { type: 'unserved' });
  await errand.actions.change.change(
    id,
    { queue: 'to', run_at: new Date(Date.now() + 3_600_000).toISOString() },
    () => {},
  );
  await until(async () => (await depthOf('to')).scheduled === 1 && (await depthOf('from')).queued === 0);
  await errand.actions.change.change(id, { run_at: null }, () => {});
  await until(async () => assert.deepEqual(await depthOf('to'), { ...none, queued: 1 }) ?? true);
});

test('a repeat under an idempotency key is no second arrival', async () => {
  const idempotency = { tenant: 0, route: 'submit', key: 'once', print: Buffer.alloc(32), of_call: true };
  for (let n = 0; n < 3; n++) await submit('keyed', { type: 'unserved', idempotency });
  await until(async () => assert.deepEqual(await depthOf('keyed'), { ...none, queued: 1 }) ?? true);
});

test('the oldest age is that of the first ready job, and there is none without one', async () => {
  assert.equal((await errand.actions.statistics.of('empty')).oldest_age_ms, null);
  await submit('aged', { type: 'unserved' });
  await client.query(
    "update errand.block set at = at - interval '90 s' where lane = (select id from errand.lane where queue = 'aged')",
  );
  const age = await until(async () => (await errand.actions.statistics.of('aged')).oldest_age_ms);
  assert.ok(age >= 90_000 && age < 100_000, `${age} ms`);
});

test('over time it tells how many came, started and ended, how long they took, and which failed', async () => {
  const queue = 'mapped';
  const from = new Date(Date.now() - 60_000).toISOString();
  for (let n = 0; n < 3; n++) await submit(queue, { type: 'takes', payload: '5' });
  await submit(queue, { type: 'fails', max_attempts: 1 });
  const ask = async (query: string) => {
    const answer = await fetch(`${errand.url}/v1/queues/${queue}/latency?${query}`);
    return { status: answer.status, ...((await answer.json()) as LatencyAnswer) };
  };
  const total = (columns: Column[], what: 'arrived' | 'started' | 'succeeded' | 'died') =>
    columns.reduce((sum, column) => sum + column[what], 0);
  const cells = (columns: Column[], what: 'wait_ms' | 'run_ms' | 'failed_ms') =>
    columns.flatMap((column) => column[what]).reduce((sum, [, times]) => sum + times, 0);
  const { columns } = await until(async () => {
    const all = await ask(`from=${from}`);
    return total(all.columns, 'succeeded') + total(all.columns, 'died') === 4 ? all : null;
  });
  assert.deepEqual([total(columns, 'arrived'), total(columns, 'started')], [4, 4]);
  assert.deepEqual(
    ['wait_ms', 'run_ms', 'failed_ms'].map((what) => cells(columns, what as 'run_ms')),
    [4, 3, 1],
  );
  const failed = await ask(`from=${from}&type=fails`);
  assert.deepEqual([total(failed.columns, 'died'), cells(failed.columns, 'run_ms')], [1, 0]);
  assert.deepEqual((await ask('from=2020-01-01T00:00:00Z&to=2020-01-01T01:00:00Z')).columns, []);
  assert.equal((await ask('step=61')).status, 422);
  assert.deepEqual((await ask('to=2020-01-01T00:00:00Z&from=2021-01-01T00:00:00Z')).columns, []);
});

test('a queue tells its figures with its record', async () => {
  await submit('shown', { type: 'unserved' });
  const { stats } = await until(async () => {
    const record = (await (await fetch(`${errand.url}/v1/queues/shown`)).json()) as { stats: Figures };
    return record.stats.depth.queued === 1 ? record : null;
  });
  const alone = await (await fetch(`${errand.url}/v1/queues/shown/stats?type=unserved`)).json();
  assert.deepEqual((alone as Figures).depth, stats.depth);
});

// These wait for what is done every few seconds: side by side.
describe('in the course of time', { concurrency: true }, () => {
  test('rates and times equal those of the job records within the width of a bucket', async () => {
    const queue = 'timed';
    const jobs = 200;
    // Watched from before: rates are known only of what was seen.
    await errand.actions.statistics.of(queue);
    const ids = await Promise.all(
      Array.from({ length: jobs }, (_, n) => submit(queue, { type: 'takes', payload: String(100 + n * 4) })),
    );
    assert.equal(ids.length, jobs);
    const figures = await until(async () => {
      const present = await errand.actions.statistics.ofType(queue, 'takes');
      // Depths and times are two looks: counts may come to be written between them.
      return present.run_ms.count === jobs && present.rate_out > 0 ? present : null;
    });
    const { rows } = await client.query<{ wait_ms: number; run_ms: number }>(
      `select extract(epoch from o.started_at - j.created_at)::float8 * 1000 wait_ms,
         extract(epoch from o.finished_at - o.started_at)::float8 * 1000 run_ms
       from errand.outcome o join errand.job j on j.id = o.job_id join errand.lane l on l.id = j.lane where l.queue = $1`,
      [queue],
    );
    assert.equal(rows.length, jobs);
    for (const name of ['wait_ms', 'run_ms'] as const) {
      const sorted = rows.map((row) => row[name]).toSorted((a, b) => a - b);
      for (const [q, told] of [
        [0.5, figures[name].p50],
        [0.95, figures[name].p95],
        [0.99, figures[name].p99],
      ] as const) {
        const truth = sorted[Math.ceil(q * jobs) - 1] as number;
        // The process takes its own time of an end, which the record has a moment sooner.
        const width = truth * 0.091 + (name === 'run_ms' ? 100 : 2);
        assert.ok(
          told !== null && Math.abs(told - truth) <= width,
          `${name} p${q * 100}: ${told}, not ${truth}`,
        );
      }
    }
    // No more ended within the window than there were.
    assert.ok(figures.rate_out * figures.rate_window_seconds <= jobs * 1.1);
  });

  test('what is folded is neither lost nor counted twice', async () => {
    const queue = 'folded';
    for (let n = 0; n < 5; n++) await submit(queue, { type: 'unserved' });
    await until(async () => (await depthOf(queue)).queued === 5);
    await client.query(
      `update errand.tally set slot = slot - interval '10 min'
       where lane in (select id from errand.lane where queue = $1)`,
      [queue],
    );
    const folded = () =>
      client.query(
        `select d.queued::int, d.arrived::int, m.arrived as minute from errand.depth d join errand.lane l on l.id = d.lane
         join errand.tally_minute m on m.lane = l.id where l.queue = $1`,
        [queue],
      );
    const { rows } = await until(
      async () => {
        const found = await folded();
        return found.rows.length === 1 ? found : null;
      },
      { timeoutMs: 20_000 },
    );
    assert.deepEqual(rows, [{ queued: 5, arrived: 5, minute: 5 }]);
    assert.equal((await depthOf(queue)).queued, 5);
  });

  test('a counter that was spoilt is reported and mended', async () => {
    const queue = 'spoilt';
    for (let n = 0; n < 3; n++) await submit(queue, { type: 'unserved' });
    await until(async () => (await depthOf(queue)).queued === 3);
    const drifted = errand.next('counter.drifted', (event) => event.queue === queue, 40_000);
    await client.query(
      `insert into errand.depth (lane, queued, running) select id, 1000, 7 from errand.lane where queue = $1
       on conflict (lane) do update set queued = 1000, running = 7`,
      [queue],
    );
    const { by, state, type } = await drifted;
    assert.deepEqual({ by, state, type }, { by: 1_000, state: 'queued', type: 'unserved' });
    await until(async () => assert.deepEqual(await depthOf(queue), { ...none, queued: 3 }) ?? true);
    const metrics = await (await fetch(`${errand.url}/metrics`)).text();
    assert.match(metrics, /errand_counter_drift\{queue="spoilt",type="unserved",state="running"\} 7/);
  });
});
