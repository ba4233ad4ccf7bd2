// Streams on real sockets and a real Postgres: jobs that run on another replica are watched by readers who are cut every 50
// ms, with Redis and without it; and readers who do not read hold up nobody.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { setTimeout as pause } from 'node:timers/promises';
import { positionOf } from '../../src/domain/timeline.ts';
import { aSubmission, startErrand, type TestErrand } from '../support/errand.ts';
import { openStream, type Received } from '../support/event-stream.ts';
import { cloneDatabase } from '../support/postgres.ts';
import { startRedis, type TestRedis } from '../support/redis.ts';
import { until } from '../support/until.ts';
import { python } from './import-core.ts';
import { runStall } from './stall-core.ts';

let redis: TestRedis;
let front: TestErrand;
let back: TestErrand;

before(async () => {
  redis = await startRedis();
  const env = { REDIS_URL: redis.url, ERRAND_LEASE_SECONDS: '30' };
  back = await startErrand({ env });
  front = await startErrand({ env: { ...env, ERRAND_ROLES: 'api' }, databaseUrl: back.databaseUrl });
});

after(async () => {
  await front.stop();
  await back.stop();
  await redis.stop();
});

/** Works off jobs of a type at one replica: each start reports ten times, the first three of a job fail. */
async function work(type: string, jobs: number): Promise<void> {
  const call = async (path: string, body: unknown, method = 'POST', headers: Record<string, string> = {}) => {
    const answer = await fetch(`${back.url}/v1/leases${path}`, {
      method,
      headers: { 'content-type': 'application/json', ...headers },
      body: JSON.stringify(body),
    });
    assert.ok(answer.ok, `${method} ${path} => ${answer.status}`);
    return answer.status === 204 ? null : answer.json();
  };
  const run = async ({ id, attempt }: { id: string; attempt: number }) => {
    for (let n = 0; n < 10; n++) {
      await call(`/${id}/${n % 4 === 3 ? 'checkpoint' : 'progress'}`, { n }, 'PUT');
      await pause(15);
    }
    if (attempt < 4) await call(`/${id}/fail`, { message: `not yet, ${attempt}`, retry_after_seconds: 0 });
    else await call(`/${id}/complete`, { result: { attempt } });
    return attempt === 4;
  };
  const ask = { worker: 'w', types: [type], limit: jobs };
  const runs: Promise<boolean>[] = [];
  for (let done = 0; done < jobs; ) {
    const { leases } = (await call('', ask, 'POST', { prefer: 'wait=1' })) as {
      leases: { id: string; attempt: number }[];
    };
    runs.push(...leases.map(run));
    if (leases.length === 0) done = (await Promise.all(runs)).filter(Boolean).length;
  }
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
    const type = `restless-${away}`;
    const backoff = { strategy: 'fixed', base_seconds: 0.1, cap_seconds: 0.1, jitter: 'none' };
    const submissions = Array.from({ length: 12 }, () =>
      front.actions.submit(aSubmission({ type, backoff: JSON.stringify(backoff) })),
    );
    const ids = (await Promise.all(submissions)).map(({ id }) => id);
    const [followed] = await Promise.all([
      Promise.all(ids.map((id) => follow(front.url, id))),
      work(type, ids.length),
    ]);
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

test('200 readers who do not read take little memory, and who reads beside them is told as soon as without them', {
  skip: python === null && 'python3 is not on PATH',
}, async (t) => {
  const own = await cloneDatabase();
  t.after(() => own.drop());
  const facts = await runStall({
    databaseUrl: own.url,
    readers: 200,
    reports_alone: 10,
    reports: 40,
    report_bytes: 16_000,
    untilCut: false,
  });
  t.diagnostic(JSON.stringify(facts));
  assert.ok(facts.most_received < facts.reports, 'they were never stuck: the test proves nothing');
  assert.equal(facts.done, 200);
  assert.ok(facts.end_mib - facts.before_mib < 200);
  assert.ok(facts.end_mib - facts.stuck_mib < 40);
  assert.ok(facts.crowd_p50_ms < facts.alone_p50_ms + 100);
});
