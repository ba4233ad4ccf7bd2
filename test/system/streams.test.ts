// Streams on real sockets and a real Postgres: jobs that run on another replica are watched by readers who are cut every 50
// ms, with Redis and without it; and readers who do not read hold up nobody.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import pg from 'pg';
import { positionOf } from '../../src/domain/timeline.ts';
import { defineHandler, JobError } from '../../src/errand.ts';
import { aSubmission, startErrand, type TestErrand } from '../support/errand.ts';
import { openStream, type Received } from '../support/event-stream.ts';
import { startRedis, type TestRedis } from '../support/redis.ts';
import { until } from '../support/until.ts';

let redis: TestRedis;
let front: TestErrand;
let back: TestErrand;
let database: pg.Pool;

before(async () => {
  redis = await startRedis();
  const env = { REDIS_URL: redis.url };
  const restless = defineHandler({
    type: 'restless',
    async run(_, { job_id, epoch, attempt }) {
      for (let n = 0; n < 10; n++) {
        await write(job_id, epoch, n % 4 === 3 ? 'checkpoint' : 'progress', `{"n":${n}}`);
        await pause(15);
      }
      if (attempt < 4)
        throw new JobError(attempt % 2 === 0 ? 'retryable' : 'rate_limited', `not yet, ${attempt}`);
      return { attempt };
    },
  });
  back = await startErrand({ env, handlers: [restless] });
  front = await startErrand({ env: { ...env, ERRAND_ROLES: 'api' }, databaseUrl: back.databaseUrl });
  database = new pg.Pool({ connectionString: back.databaseUrl, max: 4 });
  database.on('error', () => {});
});

after(async () => {
  await database.end();
  await front.stop();
  await back.stop();
  await redis.stop();
});

function write(id: string, epoch: number, what: 'progress' | 'checkpoint', value: string): Promise<unknown> {
  return database.query(
    `insert into errand.progress as p (job_id, epoch, ${what}_seq, ${what}_at, ${what}) values ($1, $2, 1, now(), $3)
     on conflict (job_id) do update set epoch = excluded.epoch, seq = p.seq + 1, ${what}_seq = p.seq + 1,
       ${what}_at = now(), ${what} = excluded.${what}`,
    [id, epoch, value],
  );
}

/** Reads a job to its end on streams that are cut every 50 ms. */
async function follow(url: string, id: string): Promise<{ seen: Received[]; streams: number }> {
  const seen: Received[] = [];
  for (let streams = 1; ; streams++) {
    const stream = await openStream(url, id, { after: seen.at(-1)?.id });
    if (stream.status === 204) return { seen, streams };
    assert.equal(stream.status, 200);
    const cut = setTimeout(() => stream.cut(), 50);
    await stream.over;
    clearTimeout(cut);
    seen.push(...stream.events);
  }
}

for (const away of [false, true]) {
  test(`over a reconnect each 50 ms nothing is lost or doubled; Redis ${away ? 'away' : 'there'}`, async () => {
    if (away) await redis.stop();
    const backoff = { strategy: 'fixed', base_seconds: 0.1, cap_seconds: 0.1, jitter: 'none' } as const;
    const submissions = Array.from({ length: 12 }, () =>
      front.actions.submit(aSubmission({ type: 'restless', backoff: JSON.stringify(backoff) })),
    );
    const ids = (await Promise.all(submissions)).map(({ id }) => id);
    const followed = await Promise.all(ids.map((id) => follow(front.url, id)));
    for (const [i, { seen, streams }] of followed.entries()) {
      const id = ids[i] as string;
      assert.ok(streams > 10, `only ${streams} streams`);
      const page = (await (await fetch(`${front.url}/v1/jobs/${id}/events`)).json()) as { items: Received[] };
      const told = seen.map((one) => one.id);
      assert.equal(new Set(told).size, told.length, `doubled: ${told}`);
      assert.deepEqual(told, [...told].sort(byPlace), 'out of order');
      const states = (events: Received[]) => events.filter(({ event }) => /state|done/.test(event));
      assert.deepEqual(states(seen), states(page.items));
      assert.equal(states(seen).length, 9);
      // What a later write replaced may be missing; the last of each never is.
      for (const { id: last } of page.items) assert.ok(told.includes(last), `lost: ${last}`);
      assert.ok(seen.filter(({ event }) => event === 'progress').length > 4);
    }
    await until(() => front.actions.watch.streams === 0);
    assert.equal(front.actions.watch.jobs, 0);
  });
}

function byPlace(a: string, b: string): number {
  const [one, other] = [positionOf(a), positionOf(b)];
  if (one === null || other === null) throw new Error(`${a} or ${b} is no id of an event`);
  return one.step - other.step || one.seq - other.seq;
}
