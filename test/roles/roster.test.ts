// Who takes work, as operators see it: processes with handlers, pull workers that wait or hold leases, and the ready jobs
// that nobody takes.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { defineHandler } from '../../src/errand.ts';
import { aSubmission, startErrand, type TestErrand } from '../support/errand.ts';
import { poolOn } from '../support/postgres.ts';
import { until } from '../support/until.ts';

let errand: TestErrand;

before(async () => {
  errand = await startErrand({
    env: { ERRAND_LEASE_SECONDS: '30' },
    handlers: [defineHandler({ type: 'handled', run: () => 'done' })],
  });
});

after(() => errand.stop());

interface Listed {
  items: {
    name: string;
    kind: string;
    version: string | null;
    queues: string[];
    types: string[];
    pushes: boolean;
    slots: number;
    running: number;
    jobs: { id: string; started_at: string; lease_until: string }[];
    present: boolean;
  }[];
  next_cursor: string | null;
  unserved: { queue: string; type: string; queued: number }[];
}

async function listed(query = ''): Promise<Listed> {
  const response = await fetch(`${errand.url}/v1/workers${query}`);
  assert.equal(response.status, 200);
  return (await response.json()) as Listed;
}

/** The list once this process has written what it heard. */
async function written(): Promise<Listed> {
  await errand.actions.roster.write();
  return listed();
}

test('a process is listed with its release and the types of its handlers', async () => {
  const { items } = await written();
  const own = items.find(({ kind }) => kind === 'process');
  assert.deepEqual(own?.types, ['handled']);
  assert.equal(own?.pushes, true);
  assert.match(own?.version ?? '', /^\d+\.\d+\.\d+$/);
  assert.ok((own?.slots ?? 0) > 0);
  assert.equal(own?.present, true);
});

test('a pull worker that waits is listed with what it asks for, before it ever held a job', async () => {
  const gone = new AbortController();
  const waits = errand.actions.pull.lease({
    worker: 'waiter',
    version: '2.1',
    queues: ['mail*'],
    types: ['send'],
    limit: 7,
    lease_seconds: 30,
    wait_ms: 20_000,
    signal: gone.signal,
  });
  await until(async () => (await written()).items.some(({ name }) => name === 'waiter'));
  const waiter = (await listed()).items.find(({ name }) => name === 'waiter');
  gone.abort();
  await waits;
  assert.deepEqual(
    { ...waiter, since: null, seen_at: null },
    {
      name: 'waiter',
      kind: 'pull',
      version: '2.1',
      queues: ['mail*'],
      types: ['send'],
      pushes: false,
      slots: 7,
      running: 0,
      jobs: [],
      since: null,
      seen_at: null,
      present: true,
    },
  );
});

test('a worker is listed with the jobs it holds, also when it was not heard of for long, until they end', async () => {
  const { id } = await errand.actions.submit(aSubmission({ type: 'held' }));
  const ask = { queues: [], types: ['held'], limit: 1, lease_seconds: 30, wait_ms: 5_000 };
  const [leased] = await errand.actions.pull.lease({ worker: 'holder', ...ask });
  assert.equal(leased?.job_id, id);
  await errand.actions.roster.write();
  const db = poolOn(errand.databaseUrl, 1);
  await db.many({
    text: `update errand.roster set seen_at = seen_at - interval '10 min' where worker = (select id from errand.worker where name = 'holder')`,
  });
  await db.end();
  const silent = (await listed()).items.find(({ name }) => name === 'holder');
  assert.equal(silent?.present, false);
  assert.equal(silent?.running, 1);
  assert.equal(silent?.jobs[0]?.id, id);
  await errand.actions.pull.complete(leased?.lease_id ?? '', { result: null, created_uri: null });
  assert.equal(
    (await listed()).items.find(({ name }) => name === 'holder'),
    undefined,
  );
});

test('ready jobs of a type that nobody takes are counted, in the list and in the metrics', async () => {
  await written();
  for (let n = 0; n < 3; n++)
    await errand.actions.submit(aSubmission({ queue: 'lonely', type: 'orphan', payload: `${n}` }));
  const orphans = { queue: 'lonely', type: 'orphan', queued: 3 };
  // As they are counted: told within a second or so.
  await until(async () => assert.deepEqual((await listed()).unserved, [orphans]) ?? true);
  const metrics = await (await fetch(`${errand.url}/metrics`)).text();
  assert.match(metrics, /errand_unserved_jobs\{queue="lonely",type="orphan"\} 3\n/);
  // Whoever asks for them takes one and keeps the others from being nobody's.
  const ask = { queues: ['lonely'], types: [], limit: 1, lease_seconds: 30, wait_ms: 0 };
  const [leased] = await errand.actions.pull.lease({ worker: 'late', ...ask });
  assert.ok(leased);
  assert.deepEqual((await written()).unserved, []);
});

test('the list goes on page by page, and refuses a cursor that is not its own', async () => {
  const ask = { queues: [], types: ['nothing'], limit: 1, lease_seconds: 30, wait_ms: 0 };
  for (const worker of ['p1', 'p2', 'p3']) await errand.actions.pull.lease({ worker, ...ask });
  const all = (await written()).items.map(({ name }) => name);
  const paged: string[] = [];
  let query = '?limit=2';
  for (;;) {
    const { items, next_cursor } = await listed(query);
    paged.push(...items.map(({ name }) => name));
    if (next_cursor === null) break;
    query = `?limit=2&cursor=${next_cursor}`;
  }
  assert.deepEqual(paged, all);
  assert.ok(all.length >= 4);
  const foreign = await fetch(`${errand.url}/v1/workers?cursor=eyJ2IjoxfQ.AAAAAAAAAAAAAAAAAAAAAA`);
  assert.equal(foreign.status, 400);
});

test('a process that stops is listed no more', async () => {
  const second = await startErrand({ databaseUrl: errand.databaseUrl });
  await second.actions.roster.write();
  const before = (await listed()).items.filter(({ kind }) => kind === 'process').length;
  await second.stop();
  assert.equal((await listed()).items.filter(({ kind }) => kind === 'process').length, before - 1);
});
