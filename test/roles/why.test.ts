// Why a job waits, in prepared situations: the cause that is told first is the one whose end lets the job go on.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import type { Pool } from '../../src/store/db.ts';
import { aSubmission, startErrand, type TestErrand } from '../support/errand.ts';
import { poolOn } from '../support/postgres.ts';
import { until } from '../support/until.ts';

/** Nobody rescues here: what ran out stays so for as long as it is looked at. */
let errand: TestErrand;
let db: Pool;

before(async () => {
  errand = await startErrand({ env: { ERRAND_LEASE_SECONDS: '60', ERRAND_ROLES: 'api' } });
  db = poolOn(errand.databaseUrl, 1);
});

after(async () => {
  await db.end();
  await errand.stop();
});

interface Told {
  state: string;
  cause: string;
  reasons: { cause: string; detail: string; release: string; until?: string; job_id?: string }[];
}

async function why(id: string): Promise<Told> {
  const response = await fetch(`${errand.url}/v1/jobs/${id}/why`);
  assert.equal(response.status, 200);
  return (await response.json()) as Told;
}

/** The causes, in their order. */
async function causesOf(id: string): Promise<string[]> {
  const { cause, reasons } = await why(id);
  assert.equal(reasons[0]?.cause, cause);
  for (const { detail, release } of reasons) assert.ok(detail.length > 10 && release.length > 10);
  return reasons.map((one) => one.cause);
}

async function submit(type: string, over: Parameters<typeof aSubmission>[0] = {}): Promise<string> {
  return (await errand.actions.submit(aSubmission({ type, ...over }))).id;
}

/** Leases jobs of a type as a worker that is on duty from now on. */
async function lease(type: string, worker = 'w', limit = 1) {
  const leased = await errand.actions.pull.lease({
    worker,
    queues: [],
    types: [type],
    limit,
    lease_seconds: 60,
    wait_ms: 0,
  });
  await errand.actions.roster.write();
  return leased;
}

test('a type nobody takes: no_worker', async () => {
  assert.deepEqual(await causesOf(await submit('nobodys')), ['no_worker']);
});

test('a worker with room: ready', async () => {
  await lease('roomy', 'roomy', 5);
  assert.deepEqual(await causesOf(await submit('roomy')), ['ready']);
});

test('jobs before it: behind_others, with how many', async () => {
  await lease('crowded', 'crowded', 5);
  await submit('crowded');
  await submit('crowded');
  const id = await submit('crowded');
  assert.deepEqual(await causesOf(id), ['behind_others']);
  assert.match((await why(id)).reasons[0]?.detail ?? '', /^2 jobs stand/);
});

test('more urgent jobs: behind_others, but for those that are so much younger that age counts for more', async () => {
  await lease('ranked', 'ranked', 5);
  const id = await submit('ranked');
  await submit('ranked', { priority: 4 });
  await submit('ranked', { priority: 6 });
  assert.match((await why(id)).reasons[0]?.detail ?? '', /^1 more urgent job goes first$/);
  await db.many({ text: `update errand.block set at = at - interval '31 s' where ${id} = any(ids)` });
  assert.deepEqual(await causesOf(id), ['ready']);
});

test('every place of its workers taken: workers_busy, until one of their jobs ends', async () => {
  await submit('busy');
  await submit('busy');
  const [held] = await lease('busy', 'busy', 2);
  const waits = await submit('busy');
  assert.deepEqual(await causesOf(waits), ['workers_busy']);
  await errand.actions.pull.complete(held?.lease_id ?? '', { result: null, created_uri: null });
  assert.deepEqual(await causesOf(waits), ['ready']);
});

test('a run_at ahead: scheduled, until then', async () => {
  const run_at = '2099-01-01T00:00:00.000Z';
  const id = await submit('future', { run_at });
  const { cause, reasons } = await why(id);
  assert.deepEqual([cause, reasons[0]?.until], ['scheduled', run_at]);
});

test('a failed attempt: backing_off, with what it failed of', async () => {
  const id = await submit('failing');
  const [held] = await lease('failing');
  await errand.actions.pull.fail(held?.lease_id ?? '', {
    class: 'retryable',
    message: 'no paper',
    retry_after_seconds: 600,
  } as Parameters<typeof errand.actions.pull.fail>[1]);
  const { state, cause, reasons } = await why(id);
  assert.deepEqual([state, cause], ['retrying', 'backing_off']);
  assert.match(reasons[0]?.detail ?? '', /no paper/);
  assert.ok(reasons[0]?.until);
});

test('under a lease: running, with whose; asked to stop: cancel_requested first', async () => {
  const id = await submit('held');
  await lease('held', 'holder');
  const { cause, reasons } = await why(id);
  assert.equal(cause, 'running');
  assert.match(reasons[0]?.detail ?? '', /^holder runs it/);
  await errand.actions.cancel.cancel(id);
  assert.deepEqual(await causesOf(id), ['cancel_requested', 'running']);
});

test('a lease that ran out: lease_ran_out', async () => {
  const id = await submit('lost');
  await lease('lost', 'gone');
  await db.many({ text: `update errand.lease set until = now() - interval '1 s' where ${id} = any(ids)` });
  const { cause, reasons } = await why(id);
  assert.equal(cause, 'lease_ran_out');
  assert.match(reasons[0]?.detail ?? '', /^gone /);
});

test('a job that lost two processes: suspect', async () => {
  const id = await submit('suspicious');
  await lease('suspicious', 'any', 5);
  const [again] = await lease('suspicious', 'any', 5);
  assert.equal(again, undefined);
  await db.many({
    text: `with l as (delete from errand.lease where ${id} = any(ids) returning *)
      insert into errand.block (seq, ord, lane, prio, timeout_seconds, epoch, attempt, ids)
      select nextval('errand.block_seq'), currval('errand.block_seq'), lane, prio + 20, 60, 3, 3, ids from l`,
  });
  await db.many({
    text: `insert into errand.place (job_id, blk) select ${id}, seq from errand.block where ${id} = any(ids)`,
  });
  assert.deepEqual(await causesOf(id), ['suspect']);
});

test('an end: ended, with the failure where there was one', async () => {
  const id = await submit('done');
  const [held] = await lease('done');
  await errand.actions.pull.complete(held?.lease_id ?? '', { result: null, created_uri: null });
  assert.deepEqual(await causesOf(id), ['ended']);
  const failed = await submit('broken');
  const [broken] = await lease('broken');
  await errand.actions.pull.fail(broken?.lease_id ?? '', {
    class: 'permanent',
    message: 'cannot be read',
    retry_after_seconds: null,
  } as Parameters<typeof errand.actions.pull.fail>[1]);
  assert.match((await why(failed)).reasons[0]?.detail ?? '', /dead: cannot be read/);
});

async function post(
  path: string,
  body: object = {},
): Promise<{ status: number; body: Record<string, string> }> {
  const response = await fetch(`${errand.url}${path}`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  });
  return { status: response.status, body: (await response.json()) as Record<string, string> };
}

test('a paused queue: queue_paused, with the reason and when it ends; a paused type beside it', async () => {
  const id = await submit('paused', { queue: 'stopped' });
  await post('/v1/queues/stopped/pause', { reason: 'bad deploy', until: '2099-01-01T00:00:00Z' });
  await post('/v1/queues/stopped/pause', { types: ['paused'], reason: 'bad type' });
  const { reasons } = await why(id);
  assert.deepEqual(
    reasons.map(({ cause, until }) => [cause, until]),
    [
      ['queue_paused', '2099-01-01T00:00:00.000Z'],
      ['type_paused', undefined],
      ['no_worker', undefined],
    ],
  );
  assert.match(reasons[0]?.detail ?? '', /bad deploy/);
  await post('/v1/queues/stopped/resume');
  await post('/v1/queues/stopped/resume', { types: ['paused'] });
  assert.deepEqual(await causesOf(id), ['no_worker']);
});

test('a unique key whose holder runs: blocked, by which job', async () => {
  const job = { type: 'keyed', unique: { key: 'k1', on_conflict: 'rerun' } };
  const first = await post('/v1/jobs', job);
  await lease('keyed');
  const second = await post('/v1/jobs', job);
  assert.equal(second.status, 202);
  const { state, cause, reasons } = await why(second.body.id as string);
  assert.deepEqual([state, cause, reasons[0]?.job_id], ['blocked', 'blocked', first.body.id]);
});

test('a job that an operation set aside: held, with the call that puts it back', async () => {
  const id = await submit('doomed', { queue: 'purged' });
  const asked = await post('/v1/admin/actions', { action: 'queue.purge', target: 'purged', reason: 'test' });
  const confirmed = await post(`/v1/admin/actions/${asked.body.id}/confirm`, {
    phrase: asked.body.confirm_phrase,
  });
  assert.equal(confirmed.status, 202, JSON.stringify(confirmed.body));
  const mover = await startErrand({ databaseUrl: errand.databaseUrl, env: { ERRAND_ROLES: 'dispatcher' } });
  await until(async () => (await why(id)).cause === 'held');
  const { state, reasons } = await why(id);
  assert.equal(state, 'queued');
  assert.match(reasons[0]?.release ?? '', new RegExp(`^POST /v1/operations/${confirmed.body.id}/undo`));
  await post(`/v1/operations/${confirmed.body.id}/undo`);
  await until(async () => (await why(id)).cause !== 'held');
  await mover.stop();
});

test('nobody is told of a job that does not exist', async () => {
  assert.equal((await fetch(`${errand.url}/v1/jobs/999999999/why`)).status, 404);
});
