// What keeps jobs moving when nobody asks: promote, rescue, expire, and the floor under lost hints.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import pg from 'pg';
import { aSubmission, startErrand, type TestErrand } from '../support/errand.ts';
import { until } from '../support/until.ts';

let errand: TestErrand;
let client: pg.Client;

before(async () => {
  errand = await startErrand();
  client = new pg.Client({ connectionString: errand.databaseUrl });
  client.on('error', () => {});
  await client.connect();
});

after(async () => {
  await client.end();
  await errand.stop();
});

async function submit(over: Parameters<typeof aSubmission>[0]): Promise<string> {
  return (await errand.actions.submit(aSubmission(over))).id;
}

async function lease(type: string, worker = 'w1', lease_seconds = 30) {
  const [leased] = await errand.actions.pull.lease({
    worker,
    queues: [],
    types: [type],
    limit: 1,
    lease_seconds,
    wait_ms: 5_000,
  });
  assert.ok(leased, `nothing of type ${type} to lease`);
  return leased;
}

async function state(id: string) {
  return (await errand.actions.inspect.job(id))?.state;
}

async function abandon(id: string): Promise<void> {
  const lost = errand.next('job.ended', (event) => event.job_id === id);
  await client.query(`update errand.lease set until = now() - interval '1 s' where $1 = any(ids)`, [id]);
  await lost;
}

test('a delayed job waits in scheduled and starts when it is due', async () => {
  const id = await submit({ type: 'delayed', delay_ms: 300 });
  assert.equal(await state(id), 'scheduled');
  const leased = await lease('delayed');
  assert.equal(leased.job_id, id);
  assert.ok(leased.started_at.getTime() - leased.created_at.getTime() >= 300);
});

test('a job whose worker was lost runs again at once as a suspect, and is poison after three losses', async () => {
  const id = await submit({ type: 'deadly' });
  for (const attempt of [1, 2, 3]) {
    const leased = await lease('deadly', `w${attempt}`);
    assert.deepEqual([leased.job_id, leased.attempt, leased.epoch], [id, attempt, attempt]);
    await abandon(id);
  }
  const job = await errand.actions.inspect.job(id);
  assert.deepEqual([job?.state, job?.class], ['dead', 'poison']);
});

/** Jobs whose worker was lost `times` in a row, all of them together. */
async function lost(type: string, count: number, times: number): Promise<string[]> {
  const ids = await Promise.all(Array.from({ length: count }, () => submit({ type })));
  for (let n = 0; n < times; n++) {
    for (const _ of ids) await lease(type, `crashing-${n}-${_}`);
    await Promise.all(ids.map((id) => abandon(id)));
  }
  return ids;
}

const leaseMany = (type: string, worker: string) =>
  errand.actions.pull.lease({ worker, queues: [], types: [type], limit: 20, lease_seconds: 30, wait_ms: 0 });

test('the jobs of a worker that was lost are taken up together, and before what came meanwhile', async () => {
  const ids = await lost('together', 6, 1);
  const young = await submit({ type: 'together' });
  const taken: string[] = [];
  while (taken.length < ids.length + 1) {
    taken.push(...(await leaseMany('together', 'w8')).map((job) => job.job_id));
  }
  assert.deepEqual(new Set(taken.slice(0, -1)), new Set(ids));
  assert.equal(taken.at(-1), young);
});

test('of jobs that were lost twice a worker holds one at a time, so neighbours are not convicted with it', async () => {
  await lost('suspect', 2, 2);
  const [first, ...more] = await leaseMany('suspect', 'w9');
  assert.ok(first);
  assert.deepEqual([more, await leaseMany('suspect', 'w9')], [[], []]);
  assert.notEqual((await lease('suspect', 'another')).job_id, first.job_id);
});

test('a job that was lost does not starve behind a backlog of healthy jobs', async () => {
  const id = await submit({ type: 'busy' });
  await lease('busy', 'crashing');
  await abandon(id);
  for (let n = 0; n < 20; n++) await submit({ type: 'busy' });
  assert.equal((await lease('busy', 'w7')).job_id, id);
});

test('a loss between two failures starts the count of losses anew', async () => {
  const backoff = JSON.stringify({ strategy: 'fixed', base_seconds: 0, cap_seconds: 0, jitter: 'none' });
  const id = await submit({ type: 'mixed', backoff });
  for (let n = 0; n < 2; n++) {
    await lease('mixed');
    await abandon(id);
  }
  const { lease_id } = await lease('mixed');
  await errand.actions.pull.fail(lease_id, {
    class: 'retryable',
    message: 'told',
    retry_after_seconds: null,
  });
  await lease('mixed');
  await abandon(id);
  assert.equal(await state(id), 'queued');
});

test('an attempt that runs past its timeout ends as timeout, however alive its worker is', async () => {
  const id = await submit({ type: 'slow', timeout_seconds: 1, max_attempts: 1 });
  const { lease_id } = await lease('slow');
  const ended = errand.next('job.ended', (event) => event.job_id === id);
  const beat = await errand.actions.pull.heartbeat(lease_id, 3_600);
  assert.ok(beat.until.getTime() - Date.now() < 4_000, 'a heartbeat moved the deadline');
  assert.equal((await ended).class, 'timeout');
  await assert.rejects(errand.actions.pull.complete(lease_id, { result: null, created_uri: null }), {
    slug: 'lease-lost',
  });
  assert.equal(await state(id), 'dead');
});

test('a job that waits past its expires_at expires, also in a queue that nobody serves', async () => {
  const id = await submit({ type: 'unserved', expires_at: new Date(Date.now() + 200).toISOString() });
  await errand.next('job.ended', (event) => event.job_id === id && event.outcome === 'expired');
  assert.equal(await state(id), 'expired');
});

test('a job past its expires_at is never handed out', async () => {
  const id = await submit({ type: 'stale', expires_at: new Date(Date.now() - 1_000).toISOString() });
  const leased = await errand.actions.pull.lease({
    worker: 'w1',
    queues: [],
    types: ['stale'],
    limit: 1,
    lease_seconds: 30,
    wait_ms: 0,
  });
  assert.deepEqual(leased, []);
  await until(async () => (await state(id)) === 'expired', { timeoutMs: 5_000 });
});

test('work that no hint told of is found within a poll', async () => {
  await submit({ type: 'unhinted' });
  const leased = await lease('unhinted');
  await errand.actions.pull.release(leased.lease_id, 0);
  // As another process would: a block appears and nobody is told.
  await client.query(
    `with b as (delete from errand.block where lane = $1 returning *)
     insert into errand.block (ord, lane, timeout_seconds, epoch, prio, attempt, ids)
     select nextval('errand.block_seq'), lane, timeout_seconds, epoch, prio, attempt, ids[pos + 1:] from b`,
    [leased.lane],
  );
  assert.equal((await lease('unhinted')).job_id, leased.job_id);
});

test('a pull worker learns of a cancel by its heartbeat; its failure then ends the job, its success stands', async () => {
  for (const [how, state_after] of [
    ['fail', 'cancelled'],
    ['complete', 'succeeded'],
  ] as const) {
    const id = await submit({ type: 'cancelled' });
    const { lease_id } = await lease('cancelled');
    assert.equal((await errand.actions.pull.heartbeat(lease_id, 30)).cancel_requested, false);
    assert.deepEqual(await errand.actions.cancel.cancel(id), { kind: 'requested' });
    assert.equal((await errand.actions.inspect.job(id))?.cancel_requested, true);
    assert.equal((await errand.actions.pull.heartbeat(lease_id, 30)).cancel_requested, true);
    if (how === 'fail') {
      await errand.actions.pull.fail(lease_id, {
        class: 'retryable',
        message: 'stopped',
        retry_after_seconds: null,
      });
    } else await errand.actions.pull.complete(lease_id, { result: '1', created_uri: null });
    assert.equal(await state(id), state_after);
  }
});

test('a completion repeated after its success succeeds again, another ending of the same start is refused', async () => {
  const id = await submit({ type: 'repeated' });
  const { lease_id } = await lease('repeated');
  const end = { result: '{"n":1}', created_uri: null };
  assert.equal(await errand.actions.pull.complete(lease_id, end), id);
  assert.equal(await errand.actions.pull.complete(lease_id, end), id);
  const failing = { class: 'retryable' as const, message: 'no', retry_after_seconds: null };
  await assert.rejects(errand.actions.pull.fail(lease_id, failing), { slug: 'lease-lost' });
  assert.equal(await state(id), 'succeeded');
});

test('an ending that comes after another was written is refused, even where both ended the job', async () => {
  const id = await submit({ type: 'late', max_attempts: 1 });
  const { lease_id } = await lease('late');
  await abandon(id);
  assert.equal(await state(id), 'dead');
  const failing = { class: 'permanent' as const, message: 'mine', retry_after_seconds: null };
  await assert.rejects(errand.actions.pull.fail(lease_id, failing), { slug: 'lease-lost' });
  assert.equal((await errand.actions.inspect.job(id))?.class, 'lost');
});

test('a job that was asked to stop and loses its worker is cancelled, also at its last attempt', async () => {
  const id = await submit({ type: 'both', max_attempts: 1 });
  await lease('both');
  assert.deepEqual(await errand.actions.cancel.cancel(id), { kind: 'requested' });
  await abandon(id);
  assert.equal(await state(id), 'cancelled');
});

test('an ending is counted once, however often it is repeated', async () => {
  const id = await submit({ type: 'counted' });
  const { lease_id } = await lease('counted');
  let ends = 0;
  const off = errand.events.on('job.ended', (event) => {
    if (event.job_id === id) ends++;
  });
  const end = { result: '1', created_uri: null };
  for (let n = 0; n < 3; n++) await errand.actions.pull.complete(lease_id, end);
  off();
  assert.equal(ends, 1);
});

test('several pulls of one worker at once get one suspect between them', async () => {
  await lost('pair', 2, 2);
  const got = await Promise.all([1, 2, 3, 4].map(() => leaseMany('pair', 'w')));
  assert.equal(got.flat().length, 1);
});

test('a job that is taken out last takes its block with it', async () => {
  const ids = await Promise.all([1, 2, 3].map(() => submit({ type: 'taken-out' })));
  for (const id of ids) assert.deepEqual(await errand.actions.cancel.cancel(id), { kind: 'taken' });
  const { rows } = await client.query(
    `select ids from errand.block b join errand.lane on lane.id = b.lane where route = 'taken-out'`,
  );
  assert.deepEqual(rows, []);
  const text = await (await fetch(`${errand.url}/metrics`)).text();
  assert.match(text, /^errand_oldest_ready_seconds\{queue="default",type="taken-out"\} 0$/m);
});

test('a completion sent several times at once leaves its neighbours in the same lease alone', async () => {
  await Promise.all([1, 2, 3].map(() => submit({ type: 'neighbours' })));
  const ask = { worker: 'w', queues: [], types: ['neighbours'], limit: 12, lease_seconds: 30, wait_ms: 0 };
  const leased = await errand.actions.pull.lease(ask);
  const shared = leased.filter((one) => one.lease === leased[0]?.lease);
  assert.ok(shared.length > 1, 'no two jobs share a lease row: this test proves nothing');
  const [first, ...rest] = shared;
  const end = { result: '1', created_uri: null };
  await Promise.all(shared.map(() => errand.actions.pull.complete(first?.lease_id as string, end)));
  for (const { lease_id, job_id } of rest) {
    await errand.actions.pull.heartbeat(lease_id, 30);
    assert.equal(await errand.actions.pull.complete(lease_id, end), job_id);
  }
});

test('an ending under a cancel that is repeated is answered the same again', async () => {
  const failing = { class: 'retryable' as const, message: 'stopped', retry_after_seconds: null };
  for (const how of ['release', 'fail'] as const) {
    const id = await submit({ type: 'twice' });
    const { lease_id } = await lease('twice');
    assert.deepEqual(await errand.actions.cancel.cancel(id), { kind: 'requested' });
    const end = () =>
      how === 'release'
        ? errand.actions.pull.release(lease_id, 0)
        : errand.actions.pull.fail(lease_id, failing);
    assert.equal((await end()).status, 'cancelled');
    assert.equal((await end()).status, 'cancelled');
  }
});

test('a long poll holds one place, however often it is woken, and leaves nothing behind', async () => {
  const { waiters } = errand.actions;
  const before = waiters.count;
  const ask = { worker: 'w', queues: [], types: ['never'], limit: 1, lease_seconds: 30, wait_ms: 2_000 };
  const poll = errand.actions.pull.lease(ask);
  await until(() => waiters.count === before + 1);
  for (let n = 0; n < 50; n++) await submit({ type: 'other' });
  assert.equal(waiters.count, before + 1);
  assert.deepEqual(await poll, []);
  assert.equal(waiters.count, before);
});

test('a lock that is not given in time is a 503, with or without a key', async () => {
  const locker = new pg.Client({ connectionString: errand.databaseUrl });
  await locker.connect();
  await locker.query('begin; lock table errand.job in access exclusive mode');
  try {
    const answers = await Promise.all([
      fetch(`${errand.url}/v1/jobs/1`),
      fetch(`${errand.url}/v1/jobs`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: '{"type":"locked"}',
      }),
    ]);
    for (const answer of answers) {
      assert.equal(answer.status, 503);
      assert.equal(((await answer.json()) as { code: string }).code, 'database-unavailable');
    }
  } finally {
    await locker.query('rollback');
    await locker.end();
  }
});
