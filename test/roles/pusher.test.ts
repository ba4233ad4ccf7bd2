// Jobs with a target: what the target is sent, what its answer makes of the job, and what a cancel, a deadline, a lost
// lease and a drain do to a request under way.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, before, test } from 'node:test';
import pg from 'pg';
import { Webhook } from 'standardwebhooks';
import type { AskedOptions } from '../../src/actions/submit.ts';
import { parseSigningSecret, verify } from '../../src/domain/signature.ts';
import { aSubmission, startErrand, type TestErrand } from '../support/errand.ts';
import { cloneDatabase } from '../support/postgres.ts';
import { until } from '../support/until.ts';

interface Visit {
  method: string;
  headers: Record<string, string>;
  body: Buffer;
  /** Resolves when the answer is complete or the connection is cut. */
  closed: Promise<unknown>;
  response: ServerResponse;
}

const fixed = JSON.stringify({ strategy: 'fixed', base_seconds: 0.05, cap_seconds: 1, jitter: 'none' });
const secret = `whsec_${Buffer.alloc(32, 9).toString('base64')}`;
const older = `whsec_${Buffer.alloc(32, 8).toString('base64')}`;
const visits = new Map<string, Visit[]>();
const target = createServer(take);
let errand: TestErrand;
let database: pg.Client;

/** Keeps every request by its path and answers it as the path says: /<name>/<status>, or not at all for /<name>/hang. */
async function take(request: IncomingMessage, response: ServerResponse): Promise<void> {
  const path = request.url as string;
  const closed = new Promise((resolve) => response.once('close', resolve));
  const body = Buffer.concat(await request.toArray());
  const headers = request.headers as Record<string, string>;
  const visit: Visit = { method: request.method as string, headers, body, closed, response };
  visits.set(path, [...(visits.get(path) ?? []), visit]);
  const word = path.split('/').at(-1) as string;
  const status = word === 'flaky' ? (visitsOf(path).length < 3 ? 503 : 200) : Number(word);
  const more = path.startsWith('/snooze') && visitsOf(path).length < 2 ? { 'Errand-Snooze': '1' } : {};
  if (!Number.isNaN(status))
    response.writeHead(status, { 'Content-Type': 'application/json', ...more }).end('{"n":1}');
}

function visitsOf(path: string): Visit[] {
  return visits.get(path) ?? [];
}

async function visited(path: string): Promise<Visit> {
  return until(() => visitsOf(path)[0], { what: `a request to ${path}` });
}

function at(path: string): string {
  return `http://127.0.0.1:${(target.address() as AddressInfo).port}${path}`;
}

before(async () => {
  target.listen(0, '127.0.0.1');
  await once(target, 'listening');
  errand = await startErrand({ env: { ERRAND_SIGNING_SECRETS: `${secret},${older}` } });
  database = new pg.Client({ connectionString: errand.databaseUrl });
  await database.connect();
});

after(async () => {
  await database.end();
  await errand.stop();
  target.closeAllConnections();
  target.close();
});

type Wish = Partial<Parameters<typeof aSubmission>[0]> & { asked?: AskedOptions };

async function push(path: string, { asked, ...over }: Wish = {}, by = errand): Promise<string> {
  const options = { target: { url: at(path), method: 'POST' as const }, ...asked };
  return (await by.actions.submit(aSubmission({ backoff: fixed, ...over, options }))).id;
}

function ended(id: string) {
  return errand.next('job.ended', (event) => event.job_id === id && event.outcome !== 'retry');
}

async function facts(id: string) {
  const job = await errand.actions.inspect.job(id);
  assert.ok(job);
  return job;
}

/** Pushes a job and waits for its end. */
async function pushed(path: string, wish: Wish = {}) {
  const id = await push(path, wish);
  await until(async () => ['succeeded', 'dead', 'cancelled'].includes((await facts(id)).state), {
    what: `the end of ${path}`,
  });
  return facts(id);
}

test('a target gets the payload byte for byte, signed, and its answer is the result', async () => {
  const payload = '{ "big": 12345678901234567890, "text": "grüße" }';
  const job = await pushed('/plain/200', {
    queue: 'emails',
    type: 'mail.send',
    payload,
    asked: { target: { url: at('/plain/200'), method: 'PUT', headers: { 'X-A': '1' } } },
  });
  const { method, headers, body } = await visited('/plain/200');
  assert.deepEqual([method, headers['x-a'], body.toString()], ['PUT', '1', payload]);
  for (const one of [secret, older]) new Webhook(one).verify(body, headers);
  assert.equal(headers['webhook-id'], job.id);
  assert.equal(headers['content-type'], 'application/json');
  assert.deepEqual(
    ['queue', 'type', 'attempt', 'max-attempts', 'epoch'].map((name) => headers[`errand-${name}`]),
    ['emails', 'mail.send', '1', '8', '1'],
  );
  assert.deepEqual([job.state, job.type], ['succeeded', 'mail.send']);
  assert.deepEqual(await errand.actions.inspect.result(job.id), { result: '{"n":1}', created_uri: null });
});

test('bytes that are no text arrive as they were, with their media type', async () => {
  const bytes = Buffer.from([0, 0xff, 0xd8, 10]);
  const payload = bytes.toString('base64');
  await pushed('/bytes/204', { payload, asked: { payload_base64: true, content_type: 'image/jpeg' } });
  const { headers, body } = await visited('/bytes/204');
  assert.ok(body.equals(bytes));
  assert.equal(headers['content-type'], 'image/jpeg');
  const message = {
    id: headers['webhook-id'] as string,
    timestamp: Number(headers['webhook-timestamp']),
    body,
  };
  // The library of the other tests verifies texts only.
  const signature = headers['webhook-signature'] as string;
  assert.ok(verify(message, signature, [parseSigningSecret(secret)], new Date()));
});

test('a target that fails for a while is asked again under the same id, each time as a new start', async () => {
  const job = await pushed('/some/flaky');
  assert.deepEqual([job.state, job.attempt], ['succeeded', 3]);
  const told = visitsOf('/some/flaky').map(({ headers }) => [
    headers['webhook-id'],
    headers['errand-attempt'],
    headers['errand-epoch'],
  ]);
  assert.deepEqual(
    told,
    ['1', '2', '3'].map((n) => [job.id, n, n]),
  );
});

test('a failure is recorded with who said so and the status', async () => {
  const refused = await pushed('/no/404');
  assert.deepEqual(
    [refused.state, refused.attempt, refused.class, refused.source, refused.http_status, refused.error],
    ['dead', 1, 'permanent', 'target', 404, 'the target answered 404'],
  );
  const spent = await pushed('/no/500', { max_attempts: 2 });
  assert.deepEqual(
    [spent.state, spent.attempt, spent.class, spent.http_status],
    ['dead', 2, 'retryable', 500],
  );
});

test('a target that hangs is cut at the deadline: timeout', async () => {
  const job = await pushed('/late/hang', { timeout_seconds: 1, max_attempts: 1 });
  assert.deepEqual([job.state, job.class, job.source, job.http_status], ['dead', 'timeout', 'target', null]);
  await (await visited('/late/hang')).closed;
});

test('a target that takes a job over keeps it to its deadline and ends it by its lease', async () => {
  const id = await push('/over/202', { timeout_seconds: 60 });
  const { headers } = await visited('/over/202');
  const lease = async () => {
    const { rows } = await database.query(
      'select until >= deadline as whole, cardinality(ids) n from errand.lease where $1 = any(ids)',
      [id],
    );
    return rows[0];
  };
  await until(async () => (await lease())?.whole === true);
  assert.equal((await lease()).n, 1);
  assert.equal((await facts(id)).state, 'running');
  await errand.actions.pull.complete(headers['errand-lease'] as string, { result: '[7]', created_uri: null });
  assert.equal((await facts(id)).state, 'succeeded');
  assert.deepEqual(await errand.actions.inspect.result(id), { result: '[7]', created_uri: null });
  assert.equal(await lease(), undefined);
});

test('a job that was taken over and is not heard of again ends as timeout', async () => {
  const job = await pushed('/gone/202', { timeout_seconds: 1, max_attempts: 1 });
  assert.deepEqual([job.state, job.class], ['dead', 'timeout']);
});

test('whoever ends a pushed job, its end is told with its own type', async () => {
  const delayed = await push('/never/200', { type: 'mail', delay_ms: 60_000 });
  const cancelled = ended(delayed);
  await errand.actions.cancel.cancel(delayed);
  assert.equal((await cancelled).type, 'mail');
  const over = await push('/typed/202', { type: 'mail' });
  const { headers } = await visited('/typed/202');
  const completed = ended(over);
  await errand.actions.pull.complete(headers['errand-lease'] as string, { result: null, created_uri: null });
  assert.equal((await completed).type, 'mail');
  const silent = await push('/untold/202', { type: 'mail', timeout_seconds: 1, max_attempts: 1 });
  assert.equal((await ended(silent)).type, 'mail');
});

test('a target that completes before it answers 202 has completed the job', async () => {
  const id = await push('/early/hang');
  const { headers, response } = await visited('/early/hang');
  const end = ended(id);
  await errand.actions.pull.complete(headers['errand-lease'] as string, { result: '1', created_uri: null });
  response.writeHead(202).end();
  assert.equal((await end).outcome, 'succeeded');
});

test('a request whose job was ended by its lease is cut at the next renewal, those beside it stay', async () => {
  const ids = await Promise.all(['one', 'two', 'three'].map((name) => push(`/beside/${name}/hang`)));
  const [one, ...others] = (await Promise.all(
    ['one', 'two', 'three'].map((name) => visited(`/beside/${name}/hang`)),
  )) as [Visit, Visit, Visit];
  const { rowCount } = await database.query('select from errand.lease where ids @> $1::bigint[]', [ids]);
  assert.equal(rowCount, 1);
  const lease = one.headers['errand-lease'] as string;
  await errand.actions.pull.complete(lease, { result: null, created_uri: null });
  await one.closed;
  for (const { response } of others) response.writeHead(204).end();
  await until(async () => (await Promise.all(ids.map(facts))).every(({ state }) => state === 'succeeded'));
});

test('jobs of one claim are taken over one by one, and no lease stays behind', async () => {
  const ids = await Promise.all(Array.from({ length: 6 }, (_, n) => push(`/several/${n}/hang`)));
  const all = await Promise.all(ids.map((_, n) => visited(`/several/${n}/hang`)));
  const leases = async () =>
    (
      await database.query(
        'select ids, until >= deadline whole from errand.lease where ids && $1::bigint[]',
        [ids],
      )
    ).rows;
  assert.equal((await leases()).length, 1);
  for (const { response } of all.slice(0, 3)) response.writeHead(202).end();
  await until(
    async () => (await leases()).filter(({ ids, whole }) => ids.length === 1 && whole).length === 3,
  );
  for (const { response } of all.slice(3)) response.writeHead(204).end();
  await until(async () => (await leases()).length === 3);
  for (const { headers } of all.slice(0, 3)) {
    await errand.actions.pull.complete(headers['errand-lease'] as string, {
      result: null,
      created_uri: null,
    });
  }
  for (const id of ids) assert.equal((await facts(id)).state, 'succeeded');
  assert.deepEqual(await leases(), []);
});

test('a job that was taken over holds no slot', async () => {
  const narrow = await startErrand({ env: { ERRAND_PUSH_CONCURRENCY: '1' } });
  try {
    await push('/narrow/202', {}, narrow);
    await visited('/narrow/202');
    const id = await push('/narrow/200', {}, narrow);
    await until(async () => (await narrow.actions.inspect.job(id))?.state === 'succeeded');
  } finally {
    await narrow.stop();
  }
});

test('the history says which status came with each attempt, with a snooze too', async () => {
  const job = await pushed('/snooze/425', { max_attempts: 1 });
  const attempts = await errand.actions.history.attempts(job.id);
  assert.deepEqual(
    attempts.map(({ status, attempt, http_status }) => [status, attempt, http_status]),
    [
      ['dead', 1, 425],
      ['snoozed', 1, 425],
    ],
  );
});

test('a cancel cuts the connection, and no new attempt starts', async () => {
  const id = await push('/stop/hang');
  const { closed } = await visited('/stop/hang');
  const end = ended(id);
  assert.deepEqual(await errand.actions.cancel.cancel(id), { kind: 'requested' });
  await closed;
  assert.equal((await end).outcome, 'cancelled');
  assert.equal((await facts(id)).state, 'cancelled');
  assert.equal(visitsOf('/stop/hang').length, 1);
});

test('a push whose lease is lost is cut and reports nothing', async () => {
  const id = await push('/lost/hang');
  const { closed } = await visited('/lost/hang');
  await database.query(
    `with l as (delete from errand.lease where $1 = any(ids) returning *)
     insert into errand.outcome (job_id, epoch, attempt, lane, prio, worker, started_at, status, class, source)
     select $1, epoch, attempt, lane, prio, owner, started_at, 'dead', 'lost', 'errand' from l`,
    [id],
  );
  await closed;
  const job = await facts(id);
  assert.deepEqual([job.state, job.class], ['dead', 'lost']);
});

test('a drain gives pushes under way back without costing an attempt, and cuts their connections', async () => {
  const own = await cloneDatabase();
  const second = await startErrand({
    databaseUrl: own.url,
    env: { ERRAND_DRAIN_DEADLINE_SECONDS: '3' },
  });
  const id = await push('/drain/hang', {}, second);
  const { closed } = await visited('/drain/hang');
  await second.stop();
  await closed;
  const client = new pg.Client({ connectionString: own.url });
  await client.connect();
  const { rows } = await client.query(
    'select state, attempt, epoch from errand.job_facts(array[$1::bigint])',
    [id],
  );
  await client.end();
  await own.drop();
  assert.deepEqual(rows, [{ state: 'queued', attempt: 0, epoch: 1 }]);
});

test('a drain waits for pushes that end in time', async () => {
  const second = await startErrand();
  const id = await push('/drain/slow', {}, second);
  const { response } = await visited('/drain/slow');
  const draining = second.next('service.said', ({ message }) => message === 'draining');
  const end = second.next('job.ended', ({ job_id }) => job_id === id);
  const stopped = second.stop();
  await draining;
  response.writeHead(204).end();
  assert.equal((await end).outcome, 'succeeded');
  await stopped;
});

test('a target at an address that may not be reached is a permanent failure, and nobody calls', async () => {
  const strict = await startErrand({ env: { ERRAND_PRIVATE_TARGETS: 'none' } });
  try {
    const end = strict.next('job.ended');
    const id = await push('/private/200', {}, strict);
    assert.equal((await end).outcome, 'dead');
    const job = await strict.actions.inspect.job(id);
    assert.deepEqual([job?.class, job?.source], ['permanent', 'target']);
    assert.match(job?.error ?? '', /may not be reached/);
    assert.equal(visitsOf('/private/200').length, 0);
  } finally {
    await strict.stop();
  }
});

test('no pull worker gets a job with a target', async () => {
  const id = await push('/mine/200', { delay_ms: 300 });
  const ask = { worker: 'w', queues: [], types: [], limit: 10, lease_seconds: 30 };
  const end = ended(id);
  const leased = await errand.actions.pull.lease({ ...ask, wait_ms: 1_000 });
  assert.deepEqual(leased, []);
  assert.equal((await end).outcome, 'succeeded');
});

test('of many jobs pushed at once, those to a target that hangs hold up no other', async () => {
  const stuck = await Promise.all(
    Array.from({ length: 20 }, () => push('/crowd/hang', { timeout_seconds: 6, max_attempts: 1 })),
  );
  const good = await Promise.all(Array.from({ length: 40 }, () => push('/crowd/204')));
  const endsOnceAll = async (jobs: string[], state: string): Promise<number[] | null> => {
    const records = await Promise.all(jobs.map(facts));
    const haveEnded = records.every((record) => record.state === state);
    return haveEnded ? records.map(({ finished_at }) => Number(finished_at)) : null;
  };
  const answered = await until(() => endsOnceAll(good, 'succeeded'), { timeoutMs: 20_000 });
  const hung = await until(() => endsOnceAll(stuck, 'dead'), { timeoutMs: 20_000 });
  assert.ok(Math.max(...answered) < Math.min(...hung), 'the others waited for those that hang');
});

test('leases whose jobs end in settles side by side are gone with the last of them', async () => {
  // Long leases: none of these runs out meanwhile and is swept.
  const patient = await startErrand({ env: { ERRAND_LEASE_SECONDS: '60', ERRAND_PUSH_CONCURRENCY: '32' } });
  const client = new pg.Client({ connectionString: patient.databaseUrl });
  try {
    await client.connect();
    const ids = await Promise.all(Array.from({ length: 600 }, () => push('/leaves/204', {}, patient)));
    await until(async () => (await client.query('select from errand.outcome')).rowCount === ids.length, {
      timeoutMs: 30_000,
    });
    await until(async () => (await client.query('select from errand.lease')).rowCount === 0);
  } finally {
    await client.end();
    await patient.stop();
  }
});

test('replicas without configured secrets sign with the one in the database', async () => {
  const one = await startErrand();
  const two = await startErrand({ databaseUrl: one.databaseUrl });
  try {
    const client = new pg.Client({ connectionString: one.databaseUrl });
    await client.connect();
    const { rows } = await client.query(
      `select encode(value, 'base64') key from errand.secret where name = 'signing'`,
    );
    await client.end();
    await push('/made/204', {}, one);
    const { body, headers } = await visited('/made/204');
    new Webhook(`whsec_${rows[0].key}`).verify(body, headers);
  } finally {
    await two.stop();
    await one.stop();
  }
});

test('requests are counted by what they came to', async () => {
  const text = await (await fetch(`${errand.url}/metrics`)).text();
  for (const outcome of ['succeeded', 'handed_over', 'retryable', 'permanent', 'timeout', 'aborted']) {
    assert.match(text, new RegExp(`^errand_push_requests_total{outcome="${outcome}"} [1-9]`, 'm'));
    assert.match(text, new RegExp(`^errand_push_request_seconds_count{outcome="${outcome}"} [1-9]`, 'm'));
  }
  assert.match(text, /^errand_invariant_violations_total 0$/m);
});
