// Lists against the truth: what a walk over all pages shows is compared with the facts of every job, read in one look, at
// rest and while jobs come, run, fail, wait and go.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import pg from 'pg';
import type { Filter } from '../../src/domain/listing.ts';
import { orderOf } from '../../src/domain/listing.ts';
import type { NamedFacts } from '../../src/domain/record.ts';
import { aSubmission, startErrand, type TestErrand } from '../support/errand.ts';

let errand: TestErrand;
let client: pg.Client;

before(async () => {
  // Pushed jobs stay where they are: nobody pushes here.
  errand = await startErrand({ env: { ERRAND_ROLES: 'api,dispatcher', ERRAND_LEASE_SECONDS: '60' } });
  client = new pg.Client({ connectionString: errand.databaseUrl });
  client.on('error', () => {});
  await client.connect();
});

after(async () => {
  await client.end();
  await errand.stop();
});

const target = { url: 'http://127.0.0.1:9/', method: 'POST' } as const;
const anHour_ms = 3_600_000;

async function submit(over: Parameters<typeof aSubmission>[0]): Promise<string> {
  return (await errand.actions.submit(aSubmission(over))).id;
}

async function lease(queue: string, limit = 1, types: string[] = []) {
  const ask = { worker: 'w1', queues: [queue], types, limit, lease_seconds: 60, wait_ms: 0 };
  return errand.actions.pull.lease(ask);
}

/** Every page of a list, joined; something else may go on beside each page. */
async function walk(filter: Filter, limit: number, meanwhile = async () => {}): Promise<NamedFacts[]> {
  const seen: NamedFacts[] = [];
  let cursor: string | null | undefined;
  for (let pages = 0; cursor !== null; pages++) {
    assert.ok(pages < 5_000, `no end of ${JSON.stringify(filter)}`);
    const [page] = await Promise.all([errand.actions.list.page(filter, limit, cursor), meanwhile()]);
    assert.ok(page.items.length <= limit);
    seen.push(...page.items);
    cursor = page.next_cursor;
  }
  return seen;
}

type Truth = Map<string, NamedFacts>;

/** The facts of every job there is, in one look. */
async function truth(): Promise<Truth> {
  const { rows } = await client.query<NamedFacts>(
    `select f.*, l.queue, coalesce(f.options ->> 'type', l.route) "type"
     from errand.job_facts(array(select id from errand.job)) f join errand.lane l on l.id = f.lane`,
  );
  return new Map(rows.map((row) => [row.id, row]));
}

function fits(job: NamedFacts, filter: Filter): boolean {
  const { queue, type, state, tag, error_class } = filter;
  return (
    (queue === undefined || job.queue === queue) &&
    (type === undefined || job.type === type) &&
    (state === undefined || job.state === state) &&
    (tag === undefined || (job.tags ?? []).includes(tag)) &&
    (error_class === undefined || job.class === error_class)
  );
}

const idsOf = (jobs: Iterable<NamedFacts>) =>
  [...jobs].map((job) => job.id).sort((a, b) => Number(a) - Number(b));

const states = [
  'scheduled',
  'queued',
  'running',
  'retrying',
  'succeeded',
  'dead',
  'cancelled',
  'expired',
] as const;

/** Questions of every form, some of which nobody fits. */
const questions: Filter[] = [undefined, 'a', 'b', 'nobody'].flatMap((queue) =>
  [undefined, 'x', 'pushed'].flatMap((type) =>
    [undefined, ...states].flatMap((state) =>
      [undefined, 'eu'].flatMap((tag) =>
        [undefined, 'permanent' as const].map((error_class) => ({ queue, type, state, tag, error_class })),
      ),
    ),
  ),
);

/** Jobs of every sort in both queues, some of which have moved on. */
async function populate(queue: string): Promise<void> {
  const submissions = Array.from({ length: 60 }, (_, n) => ({
    queue,
    type: ['x', 'y', 'pushed'][n % 3] as string,
    priority: n % 4,
    tags: n % 5 < 2 ? ['eu', 'eu', `n${n}`] : null,
    delay_ms: n % 4 === 3 ? anHour_ms + n : null,
    options: n % 3 === 2 ? { target } : null,
  }));
  const ids = await Promise.all(submissions.map(submit));
  const leased = await lease(queue, 20);
  for (const [n, { lease_id }] of leased.entries()) {
    const failing = { message: null, retry_after_seconds: 3_600 };
    if (n % 5 === 0) await errand.actions.pull.complete(lease_id, { result: '1', created_uri: null });
    if (n % 5 === 1) await errand.actions.pull.fail(lease_id, { class: 'permanent', ...failing });
    if (n % 5 === 2) await errand.actions.pull.fail(lease_id, { class: 'retryable', ...failing });
    if (n % 5 === 3) await errand.actions.pull.release(lease_id, n % 2 ? 3_600 : 0);
  }
  for (const id of ids.slice(0, 10)) await errand.actions.cancel.cancel(id);
}

test('every question, walked in small pages, finds exactly the jobs that fit, in its order', async () => {
  await populate('a');
  await populate('b');
  const jobs = await truth();
  const met = new Set<string | undefined>();
  for (const question of questions) {
    const what = JSON.stringify(question);
    const seen = await walk(question, 7);
    const expected = [...jobs.values()].filter((job) => fits(job, question));
    assert.deepEqual(idsOf(seen), idsOf(expected), what);
    if (expected.length > 7) met.add(question.state);
    expectOrder(question, seen);
  }
  // Otherwise this proved little.
  const { expired, ...others } = Object.fromEntries(states.map((state) => [state, met.has(state)]));
  assert.ok(Object.values(others).every(Boolean), JSON.stringify(others));
});

function expectOrder(question: Filter, seen: readonly NamedFacts[]): void {
  const keys = seen.map((job) => {
    const order = orderOf(question);
    if (order === 'newest') return -Number(job.id);
    if (order === 'due') return (job.next_at as Date).getTime();
    return order === 'turn' ? job.priority : 0;
  });
  assert.deepEqual(
    keys,
    keys.toSorted((a, b) => a - b),
    JSON.stringify(question),
  );
}

test('while jobs come, run, fail, wait and go, a walk shows each that fits all the time exactly once', async () => {
  await populate('busy');
  const trouble = troubleIn('busy');
  const few = ({ queue, type, error_class }: Filter) => queue === undefined && type !== 'x' && !error_class;
  const asked = [...questions.filter(few), ...states.map((state) => ({ queue: 'busy', state }))];
  let stable = 0;
  for (const [n, question] of asked.entries()) {
    const what = JSON.stringify(question);
    const earlier = await truth();
    const seen = await walk(question, 2 + (n % 9), trouble.meanwhile);
    const later = await truth();
    const shown = Map.groupBy(seen, (job) => job.id);
    for (const job of seen) assert.ok(fits(job, question), `${what}: ${job.id} does not fit`);
    for (const [id, times] of shown) {
      // By id none is met twice; elsewhere one that went and came back has started or was changed meanwhile.
      const versions = new Set(times.map((job) => `${job.epoch} ${job.patches}`));
      const isBack = orderOf(question) !== 'newest' && versions.size === times.length;
      assert.ok(times.length === 1 || isBack, `${what}: ${id} ${times.length} times`);
    }
    for (const [id, job] of earlier) {
      const then = later.get(id) as NamedFacts;
      const hasMoved = (['state', 'epoch', 'attempt', 'patches'] as const).some(
        (key) => job[key] !== then[key],
      );
      if (hasMoved || !fits(job, question)) continue;
      assert.equal(shown.get(id)?.length, 1, `${what}: ${id}, ${job.state} all the time`);
      stable++;
    }
    if (orderOf(question) === 'newest') expectOrder(question, seen);
  }
  assert.ok(trouble.moves() > 1_000, `${trouble.moves()} moves`);
  assert.ok(stable > 1_000, `${stable} jobs held against the truth`);
});

/** A few moves at a time, all at once: a submit, two workers, and a cancel or a change. */
function troubleIn(queue: string) {
  const known: string[] = [];
  let n = 0;
  return {
    moves: () => n * 4,
    async meanwhile() {
      n++;
      await Promise.all([come(n), run(n), run(n + 1), go(n)]);
    },
  };

  async function come(n: number) {
    const tags = n % 3 === 0 ? ['eu'] : null;
    const delay_ms = [null, null, 50, anHour_ms][n % 4] ?? null;
    const pushed = n % 5 === 0;
    const options = pushed ? { target } : null;
    known.push(
      await submit({ queue, type: pushed ? 'pushed' : 'x', priority: n % 3, tags, delay_ms, options }),
    );
  }

  async function run(n: number) {
    const failing = { message: null, retry_after_seconds: n % 2 ? 0.05 : 3_600 };
    for (const [i, { lease_id }] of (await lease(queue, 1 + (n % 3), ['x'])).entries()) {
      const way = (n + i) % 5;
      if (way < 2) await errand.actions.pull.complete(lease_id, { result: null, created_uri: null });
      if (way === 2)
        await errand.actions.pull.fail(lease_id, { class: n % 3 ? 'retryable' : 'permanent', ...failing });
      if (way === 3) await errand.actions.pull.release(lease_id, n % 2 ? 0.05 : 0);
    }
  }

  async function go(n: number) {
    const id = known[(n * 17) % Math.max(known.length, 1)];
    if (id === undefined) return;
    if (n % 3 === 0) await errand.actions.cancel.cancel(id);
    if (n % 3 === 1) await errand.actions.change.change(id, { priority: n % 4 }, () => {});
    if (n % 3 === 2) await errand.actions.change.change(id, { max_attempts: 3, tags: ['eu'] }, () => {});
  }
}

test('a job that stands in two leases is listed once, under the one it runs under', async () => {
  // The first is stored alone, the others together; a claim makes one lease for jobs that were stored together.
  const ids = await Promise.all([1, 2, 3, 4].map(() => submit({ queue: 'twice' })));
  const held = Object.groupBy(await lease('twice', 4), (job) => job.lease);
  const shared = Object.values(held).find((jobs) => jobs !== undefined && jobs.length > 1);
  const { job_id, lease_id } = shared?.[0] ?? assert.fail('no two jobs share a lease');
  await errand.actions.pull.release(lease_id, 0);
  assert.equal((await lease('twice'))[0]?.job_id, job_id);
  const rows = await client.query('select from errand.lease where $1 = any(ids)', [job_id]);
  assert.equal(rows.rowCount, 2);
  const seen = await walk({ queue: 'twice', state: 'running' }, 1);
  assert.deepEqual(seen.map((job) => job.id).sort(), ids.sort());
});

test('a job that was changed and kept its place in line is met there', async () => {
  const ids = await Promise.all(Array.from({ length: 12 }, () => submit({ queue: 'changed' })));
  for (const [n, id] of ids.entries()) {
    if (n % 3 > 0) await errand.actions.change.change(id, { max_attempts: 2 }, () => {});
  }
  const jobs = idsOf(await walk({ queue: 'changed' }, 200));
  for (const limit of [1, 2, 5, 11]) {
    const seen = await walk({ queue: 'changed', state: 'queued' }, limit);
    assert.deepEqual(
      seen.map((job) => job.id),
      jobs,
      `pages of ${limit}`,
    );
  }
});

test('a job that lost its worker is listed with those that are ready, after them', async () => {
  const lost = await submit({ queue: 'lossy', priority: 0 });
  const [held] = await lease('lossy');
  const told = errand.next('job.ended', (event) => event.job_id === lost);
  await client.query(`update errand.lease set until = now() - interval '1 s' where id = $1`, [held?.lease]);
  await told;
  const ready = await submit({ queue: 'lossy', priority: 9 });
  const seen = await walk({ queue: 'lossy', state: 'queued' }, 1);
  assert.deepEqual(
    seen.map((job) => job.id),
    [ready, lost],
  );
  assert.equal(seen[1]?.class, 'lost');
});

test('what expired is found by its state', async () => {
  const id = await submit({ queue: 'late', expires_at: new Date(Date.now() + 100).toISOString() });
  await errand.next('job.ended', (event) => event.job_id === id);
  assert.deepEqual(idsOf(await walk({ queue: 'late', state: 'expired' }, 5)), [id]);
});

test('times are exact, although ids of overlapping transactions are out of their order', async () => {
  const ids = await Promise.all(Array.from({ length: 40 }, () => submit({ queue: 'timed' })));
  const start = Date.parse('2030-01-01T00:00:00Z');
  // In the order of ids: a minute apart, and every third up to 15 s late.
  const at = (n: number) => new Date(start + n * 5_000 + (n % 3 === 0 ? 15_000 : 0));
  const sorted = ids.toSorted((a, b) => Number(a) - Number(b));
  for (const [n, id] of sorted.entries()) {
    await client.query('update errand.job set created_at = $2 where id = $1', [id, at(n)]);
  }
  for (const [from, to] of [
    [0, 40],
    [3, 4],
    [7, 30],
    [30, 7],
  ] as const) {
    const [created_after, created_before] = [at(from).toISOString(), at(to).toISOString()];
    const expected = sorted.filter((_, n) => at(n) >= at(from) && at(n) < at(to));
    for (const state of [undefined, 'queued'] as const) {
      const seen = await walk({ queue: 'timed', state, created_after, created_before }, 3);
      assert.deepEqual(idsOf(seen), expected, `${from} to ${to}, ${state}`);
    }
  }
});
