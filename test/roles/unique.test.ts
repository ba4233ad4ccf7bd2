// Unique jobs through the whole program: what becomes of a submit whose key is held, that a second run sees the newest
// payload once, and that a conflict parks one job and touches no other.
import assert from 'node:assert/strict';
import { after, before, beforeEach, test } from 'node:test';
import type { Submission } from '../../src/actions/submit.ts';
import type { Unique } from '../../src/domain/unique.ts';
import type { Handler } from '../../src/errand.ts';
import type { Pool } from '../../src/store/db.ts';
import { sql } from '../../src/store/sql.ts';
import { lockKeys } from '../../src/store/unique.ts';
import { aSubmission, startErrand, type TestErrand } from '../support/errand.ts';
import { poolOn } from '../support/postgres.ts';
import { until } from '../support/until.ts';

let errand: TestErrand;
let db: Pool;
let failures: unknown[] = [];

/** What ran, in order, by payload; a payload of the form "hold …" runs until it is let go. */
const ran: string[] = [];
const held = new Map<string, () => void>();
const handler: Handler = {
  type: 'work',
  async run(payload) {
    const name = String(payload);
    ran.push(name);
    if (name.startsWith('hold')) await new Promise<void>((resolve) => held.set(name, resolve));
    if (name.includes('fail')) throw new Error('told to');
  },
};

before(async () => {
  errand = await startErrand({ handlers: [handler] });
  errand.events.on('chore.failed', ({ error }) => failures.push(error));
  errand.events.on('store.error', ({ error }) => failures.push(error));
  db = poolOn(errand.databaseUrl, 2);
});

beforeEach(() => {
  ran.length = 0;
  failures = [];
});

after(async () => {
  for (const letGo of held.values()) letGo();
  await db.end();
  await errand.stop();
});

let keys = 0;
const newKey = () => `key-${keys++}`;

function job(
  payload: string,
  unique: Partial<Unique> & { key: string },
  over: Partial<Submission> = {},
): Submission {
  const all: Unique = {
    while: ['scheduled', 'queued', 'running', 'retrying'],
    on_conflict: 'return',
    ...unique,
  };
  return aSubmission({ payload: JSON.stringify(payload), options: { unique: all }, ...over });
}

const submit = (payload: string, unique: Partial<Unique> & { key: string }, over: Partial<Submission> = {}) =>
  errand.actions.submit(job(payload, unique, over));

async function stateOf(id: string): Promise<string | undefined> {
  return (await errand.actions.inspect.job(id))?.state;
}

async function running(payload: string, unique: Partial<Unique> & { key: string }): Promise<string> {
  const { id } = await submit(payload, unique);
  await until(() => held.has(payload));
  return id;
}

const ended = (id: string) =>
  until(async () => ['succeeded', 'cancelled', 'dead'].includes((await stateOf(id)) ?? ''));

test('of a hundred submits of one key at once there is one job, and every caller is told of it', async () => {
  const key = newKey();
  const made = await Promise.all(
    Array.from({ length: 100 }, (_, n) => submit(`many ${n}`, { key }, { delay_ms: 60_000 })),
  );
  assert.equal(new Set(made.map(({ id }) => id)).size, 1);
  assert.equal(made.filter(({ replayed }) => !replayed).length, 1);
  assert.equal(made.filter((one) => one.replayed && one.deduplicated).length, 99);
});

test('reject tells which job holds the key', async () => {
  const key = newKey();
  const { id } = await submit('first', { key }, { delay_ms: 60_000 });
  await assert.rejects(submit('second', { key, on_conflict: 'reject' }), {
    slug: 'job-not-unique',
    headers: { location: `/v1/jobs/${id}/status` },
  });
});

test('a key is free when its holder has ended, and a failed one leaves it free within its window', async () => {
  const key = newKey();
  const first = await submit('a', { key });
  await ended(first.id);
  const second = await submit('fail', { key, window_seconds: 600 }, { max_attempts: 1 });
  assert.notEqual(second.id, first.id);
  await ended(second.id);
  const third = await submit('c', { key, window_seconds: 600 });
  assert.equal(third.replayed, false);
  await ended(third.id);
  const fourth = await submit('d', { key });
  assert.deepEqual([fourth.replayed, fourth.id], [true, third.id], 'within the window of one that succeeded');
  await assert.rejects(submit('e', { key, on_conflict: 'replace' }), { slug: 'job-not-unique' });
});

for (const on_conflict of ['replace', 'rerun'] as const) {
  test(`${on_conflict} takes the place of a holder that waits, and says so in its record`, async () => {
    const key = newKey();
    const old = await submit('old', { key }, { delay_ms: 60_000 });
    const { id } = await submit('new', { key, on_conflict });
    await ended(id);
    assert.deepEqual(ran, ['new']);
    const facts = await errand.actions.inspect.job(old.id);
    assert.deepEqual([facts?.state, facts?.error], ['cancelled', `superseded by job ${id}`]);
  });
}

test('replace is refused while the holder runs', async () => {
  const key = newKey();
  await running('hold replace', { key });
  await assert.rejects(submit('new', { key, on_conflict: 'replace' }), { slug: 'job-not-unique' });
  held.get('hold replace')?.();
});

test('rerun waits for the job that runs, only the newest does, and it runs once', async () => {
  const key = newKey();
  const first = await running('hold first', { key });
  const second = await submit('second', { key, on_conflict: 'rerun' });
  const third = await submit('third', { key, on_conflict: 'rerun' });
  assert.equal(third.replayed === false && third.state, 'blocked');
  const facts = await errand.actions.inspect.job(third.id);
  assert.deepEqual(
    [facts?.state, facts?.options?.blocked_by, facts?.options?.blocked_reason],
    ['blocked', first, 'rerun'],
  );
  const listed = await errand.actions.list.page({ state: 'blocked' }, 10);
  assert.deepEqual(
    listed.items.map(({ id }) => id),
    [third.id],
  );
  assert.equal(await stateOf(second.id), 'cancelled');
  held.get('hold first')?.();
  await ended(third.id);
  assert.deepEqual(ran, ['hold first', 'third']);
});

test('a job that replaces a holder between two attempts supersedes the one that waits to run after it, too', async () => {
  const key = newKey();
  const backoff = JSON.stringify({ strategy: 'fixed', base_seconds: 60, cap_seconds: 60, jitter: 'none' });
  const first = await submit('hold fail', { key }, { backoff });
  await until(() => held.has('hold fail'));
  const second = await submit('older', { key, on_conflict: 'rerun' });
  held.get('hold fail')?.();
  await until(async () => (await stateOf(first.id)) === 'retrying');
  const third = await submit('newest', { key, on_conflict: 'rerun' });
  await ended(third.id);
  for (const { id } of [first, second])
    assert.equal((await errand.actions.inspect.job(id))?.error, `superseded by job ${third.id}`);
  assert.deepEqual(ran, ['hold fail', 'newest']);
});

test('a rerun waits for the end of the holder, and not for the end of its window', async () => {
  const key = newKey();
  await running('hold window', { key, window_seconds: 600 });
  const second = await submit('once more', { key, on_conflict: 'rerun' });
  assert.equal(await stateOf(second.id), 'blocked');
  held.get('hold window')?.();
  await ended(second.id);
  assert.deepEqual(ran, ['hold window', 'once more']);
});

test('a blocked job is changed, cancelled and expired like any other that waits', async () => {
  const key = newKey();
  await running('hold blocked', { key });
  const rerun = { key, on_conflict: 'rerun' } as const;
  const changed = await submit('changed', rerun);
  assert.deepEqual(
    await errand.actions.change.change(changed.id, { priority: 1, queue: 'other' }, () => {}),
    {
      kind: 'changed',
    },
  );
  const facts = await errand.actions.inspect.job(changed.id);
  assert.deepEqual([facts?.state, facts?.priority, facts?.queue], ['blocked', 1, 'other']);
  assert.deepEqual(await errand.actions.cancel.cancel(changed.id), { kind: 'taken' });
  const late = await submit('late', rerun, { expires_at: new Date(Date.now() + 500).toISOString() });
  await until(async () => (await stateOf(late.id)) === 'expired');
  held.get('hold blocked')?.();
  assert.deepEqual(ran, ['hold blocked']);
});

test('scheduled and retrying duplicates are parked alone when they fall due', async () => {
  const key = newKey();
  const narrow = { key, while: ['queued', 'running'] as Unique['while'] };
  const scheduled = await submit('scheduled', narrow, { delay_ms: 700 });
  const failing = await submit('fail once', narrow, {
    backoff: JSON.stringify({ strategy: 'fixed', base_seconds: 0.7, cap_seconds: 1, jitter: 'none' }),
    max_attempts: 2,
  });
  await until(async () => (await stateOf(failing.id)) === 'retrying');
  const others = await Promise.all(
    Array.from({ length: 20 }, (_, n) =>
      errand.actions.submit(aSubmission({ payload: `"plain ${n}"`, delay_ms: 700 })),
    ),
  );
  const parked: string[] = [];
  const off = errand.events.on('job.parked', ({ job_id }) => parked.push(job_id));
  await running('hold park', narrow);
  await until(() => parked.length === 2);
  for (const { id } of others) await ended(id);
  assert.deepEqual(parked.toSorted(), [scheduled.id, failing.id].toSorted());
  assert.equal((await errand.actions.inspect.job(failing.id))?.options?.blocked_reason, 'parked');
  assert.equal(ran.includes('scheduled'), false);
  held.get('hold park')?.();
  await ended(scheduled.id);
  await ended(failing.id);
  off();
  assert.equal(ran.filter((one) => one === 'scheduled').length, 1);
  assert.equal(ran.filter((one) => one === 'fail once').length, 2);
  assert.deepEqual(failures, []);
});

test('an idempotency key is looked up before the unique key', async () => {
  const key = newKey();
  const idempotency = { tenant: 0, route: 'POST /v1/jobs', key: `idem-${key}`, print: Buffer.from('same') };
  const first = await running('hold idem', { key });
  const both = await Promise.all([
    submit('again', { key }, { idempotency }),
    submit('again', { key }, { idempotency }),
  ]);
  assert.deepEqual(
    both.map(({ id }) => id),
    [first, first],
  );
  held.get('hold idem')?.();
  await ended(first);
  const repeat = await submit('again', { key }, { idempotency });
  assert.deepEqual([repeat.replayed, repeat.id], [true, first]);
  const other = { ...idempotency, print: Buffer.from('other') };
  await assert.rejects(submit('another', { key }, { idempotency: other }), {
    slug: 'idempotency-key-reused',
  });
});

test('a batch is judged job by job in its order, and stored as a whole or not at all', async () => {
  const key = newKey();
  const batch = [
    job('one', { key }, { delay_ms: 60_000 }),
    aSubmission(),
    job('two', { key }, { delay_ms: 60_000 }),
    job('three', { key, on_conflict: 'replace' }, { delay_ms: 60_000 }),
    job('four', { key: newKey() }, { delay_ms: 60_000 }),
  ];
  const [one, plain, two, three, four] = await errand.actions.submitAll(batch);
  assert.deepEqual([two?.replayed, two?.id], [true, one?.id]);
  assert.equal(await stateOf(one?.id as string), 'cancelled');
  assert.equal(await stateOf(three?.id as string), 'scheduled');
  assert.equal(new Set([one, plain, three, four].map((made) => made?.id)).size, 4);
  const jobs = await db.one(countJobs);
  await assert.rejects(
    errand.actions.submitAll([
      aSubmission(),
      job('five', { key: newKey() }),
      job('six', { key, on_conflict: 'reject' }),
    ]),
    (problem: { slug?: string; errors?: { pointer: string }[] }) =>
      problem.slug === 'job-not-unique' && problem.errors?.[0]?.pointer === '#/jobs/2/unique/key',
  );
  assert.deepEqual(await db.one(countJobs), jobs);
});

const countJobs = sql<{ jobs: number; keys: number }>`
select (select count(*)::int from errand.job) jobs, (select count(*)::int from errand.uniq) keys`;

test('the repeat of a job takes its key if it is free, and waits for whoever has it', async () => {
  const key = newKey();
  const dead = await submit('fail', { key }, { max_attempts: 1 });
  await ended(dead.id);
  const holder = await running('hold repeat', { key });
  const answer = await errand.actions.change.retry(dead.id);
  assert.deepEqual(answer, { kind: 'held', holder, state: 'running' });
  held.get('hold repeat')?.();
  await ended(holder);
  const again = await errand.actions.change.retry(dead.id);
  assert.equal(again.kind, 'retried');
  await ended((again as { id: string }).id);
  assert.equal(ran.filter((one) => one === 'fail').length, 2);
});

test('a hot key holds up neither its own callers nor those of other keys, at two replicas', async () => {
  const hot = newKey();
  const second = await startErrand({ databaseUrl: errand.databaseUrl });
  const slowest = { hot: 0, other: 0 };
  const timed = async (kind: keyof typeof slowest, of: TestErrand, asked: Submission) => {
    const began = performance.now();
    const { id } = await of.actions.submit(asked);
    slowest[kind] = Math.max(slowest[kind], performance.now() - began);
    return id;
  };
  const conflicts = ['replace', 'rerun', 'return'] as const;
  try {
    const ids = await Promise.all(
      Array.from({ length: 300 }, (_, n) => {
        const of = n % 2 === 0 ? errand : second;
        const isHot = n % 5 !== 0;
        const on_conflict = conflicts[n % 3] ?? 'return';
        const asked = job(`${n}`, { key: isHot ? hot : newKey(), on_conflict }, { delay_ms: 600_000 });
        return timed(isHot ? 'hot' : 'other', of, asked);
      }),
    );
    const states = await Promise.all(ids.map(stateOf));
    const open = new Set(ids.filter((_, n) => states[n] === 'scheduled'));
    assert.equal(open.size, 60 + 1, 'one of the hot key, and each of the others');
    assert.ok(Math.max(slowest.hot, slowest.other) < 2_000, JSON.stringify(slowest));
    assert.deepEqual(failures, []);
  } finally {
    await second.stop();
  }
});

test('while somebody has one key locked, those of other keys are stored at once', async () => {
  const stuck = newKey();
  const first = await submit('stuck', { key: stuck }, { delay_ms: 600_000 });
  let waiting: ReturnType<typeof submit>[] = [];
  let slowest = 0;
  await db.transaction(async (tx) => {
    await tx.many(lockKeys, [0, [stuck]]);
    waiting = [1, 2, 3].map(() => submit('stuck', { key: stuck }));
    for (let n = 0; n < 5; n++) {
      const began = performance.now();
      await Promise.all([1, 2, 3].map(() => submit('free', { key: newKey() }, { delay_ms: 600_000 })));
      slowest = Math.max(slowest, performance.now() - began);
    }
  });
  for (const { id } of await Promise.all(waiting)) assert.equal(id, first.id);
  assert.ok(slowest < 1_000, `the slowest took ${slowest} ms`);
});

test('who waits for a key that is locked for long is told so together with all others, after one wait', async () => {
  const stuck = newKey();
  await submit('stuck', { key: stuck }, { delay_ms: 600_000 });
  await db.transaction(async (tx) => {
    await tx.many(lockKeys, [0, [stuck]]);
    const began = performance.now();
    const ends = await Promise.allSettled([1, 2, 3, 4].map(() => submit('stuck', { key: stuck })));
    assert.ok(performance.now() - began < 4_000, 'they waited one after the other');
    for (const end of ends) {
      const { slug } = (end as PromiseRejectedResult).reason as { slug: string };
      assert.ok(['database-unavailable', 'queue-saturated'].includes(slug), slug);
    }
  });
});

test('keys that nobody holds are forgotten', async () => {
  await ended((await submit('last', { key: newKey() })).id);
  assert.ok((await db.one(loose)).n > 0);
  // A process sweeps when it starts, and then every half minute.
  const second = await startErrand({ databaseUrl: errand.databaseUrl });
  try {
    await until(async () => (await db.one(loose)).n === 0);
  } finally {
    await second.stop();
  }
});

const loose = sql<{ n: number }>`
select count(*)::int n from errand.uniq u where (u.until is null or u.until < errand.now())
  and coalesce((select f.state in ('succeeded', 'dead', 'cancelled', 'expired') from errand.job_facts(array[u.job_id]) f), true)`;
