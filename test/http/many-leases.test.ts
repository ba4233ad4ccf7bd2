// Many leases in one call: an entry for each, in order, and nothing lost because a neighbour is bad.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { FakeJobs } from '../support/fake-actions.ts';
import { post, problemOf, serve } from '../support/serve.ts';

interface Entry {
  id: string | null;
  job_id?: string;
  state?: string;
  expires_at?: string;
  cancel_requested?: boolean;
  draining?: boolean;
  next_attempt_at?: string | null;
  problem?: { code: string; status: number; request_id: string; errors?: { pointer: string }[] };
}

async function leased(
  port: number,
  jobs: FakeJobs,
  count: number,
): Promise<{ id: string; job_id: string }[]> {
  for (let n = 0; n < count; n++) jobs.add({ type: 'a' });
  const answer = await post(port, '/v1/leases', { limit: count });
  const { leases } = JSON.parse(answer.body) as { leases: { id: string; job: { id: string } }[] };
  return leases.map(({ id, job }) => ({ id, job_id: job.id }));
}

async function call(port: number, verb: string, leases: unknown): Promise<Entry[]> {
  const answer = await post(port, `/v1/leases/${verb}`, { leases });
  assert.equal(answer.status, 200, answer.body);
  return (JSON.parse(answer.body) as { leases: Entry[] }).leases;
}

const pointerOf = (entry: Entry | undefined) => entry?.problem?.errors?.[0]?.pointer;

test('each lease of a call is kept for itself, with its own time and progress', async () => {
  const { port, jobs } = await serve();
  const [a, b] = (await leased(port, jobs, 2)) as [
    { id: string; job_id: string },
    { id: string; job_id: string },
  ];
  const entries = await call(port, 'heartbeat', [
    { id: a.id, lease_seconds: 90, progress: { current: 1 } },
    { id: 'lse_gone' },
    { id: b.id },
    { id: b.id, lease_seconds: 0 },
    { id: b.id, progress: 'x'.repeat(65_535) },
    { lease_seconds: 9 },
    7,
  ]);
  assert.deepEqual(
    entries.map(({ id, problem }) => [id, problem?.code]),
    [
      [a.id, undefined],
      ['lse_gone', 'lease-lost'],
      [b.id, undefined],
      [b.id, 'validation-failed'],
      [b.id, 'payload-too-large'],
      [null, 'validation-failed'],
      [null, 'validation-failed'],
    ],
  );
  assert.ok(Math.abs(Date.parse(entries[0]?.expires_at ?? '') - Date.now() - 90_000) < 2_000);
  assert.ok(Math.abs(Date.parse(entries[2]?.expires_at ?? '') - Date.now() - 30_000) < 2_000);
  assert.deepEqual([entries[2]?.cancel_requested, entries[2]?.draining], [false, false]);
  assert.equal(jobs.jobs.get(a.job_id)?.facts.progress, '{"current":1}');
  assert.deepEqual(entries.slice(3).map(pointerOf), [
    '#/leases/3/lease_seconds',
    '#/leases/4/progress',
    '#/leases/5/id',
    '#/leases/6',
  ]);
});

test('completions are accepted whatever stands beside them, and again when repeated', async () => {
  const { port, jobs } = await serve({ env: { ERRAND_PAYLOAD_LIMIT_BYTES: '1000' } });
  const [a, b, c, d] = (await leased(port, jobs, 4)) as { id: string; job_id: string }[];
  const body = [
    `{"leases":[{"id":"${a?.id}","result":{"n":9007199254740993}},{"id":"${b?.id}","result":"${'x'.repeat(999)}"},`,
    `{"id":"${c?.id}","created":"//evil"},{"id":"lse_gone","result":1},{"id":"${d?.id}","created":"/made"}]}`,
  ].join('');
  for (let n = 0; n < 2; n++) {
    const answer = await post(port, '/v1/leases/complete', body);
    const { leases } = JSON.parse(answer.body) as { leases: Entry[] };
    assert.deepEqual(leases[0], { id: a?.id, job_id: a?.job_id, state: 'succeeded' });
    assert.deepEqual(leases[4], { id: d?.id, job_id: d?.job_id, state: 'succeeded' });
    assert.deepEqual(
      leases.map(({ problem }) => [problem?.code, problem?.status]),
      [
        [undefined, undefined],
        ['payload-too-large', 413],
        ['validation-failed', 422],
        ['lease-lost', 409],
        [undefined, undefined],
      ],
    );
    assert.deepEqual(
      [1, 2].map((i) => pointerOf(leases[i])),
      ['#/leases/1/result', '#/leases/2/created'],
    );
    assert.equal(leases[3]?.problem?.request_id, answer.headers['x-request-id']);
  }
  assert.equal(jobs.jobs.get(a?.job_id ?? '')?.result, '{"n":9007199254740993}');
  assert.equal(jobs.jobs.get(b?.job_id ?? '')?.facts.state, 'running');
});

test('failures and releases tell what became of each job', async () => {
  const { port, jobs } = await serve();
  const [a, b, c] = (await leased(port, jobs, 3)) as [
    { id: string; job_id: string },
    { id: string },
    { id: string },
  ];
  const failed = await call(port, 'fail', [
    { id: a.id, class: 'permanent', message: 'no such address' },
    { id: b.id, retry_after_seconds: 30 },
    { id: c.id, class: 'lost' },
  ]);
  assert.deepEqual(failed[0], { id: a.id, job_id: a.job_id, state: 'dead', next_attempt_at: null });
  assert.equal(failed[1]?.state, 'retrying');
  assert.ok(Math.abs(Date.parse(failed[1]?.next_attempt_at ?? '') - Date.now() - 30_000) < 2_000);
  assert.equal(failed[2]?.problem?.code, 'validation-failed');
  const released = await call(port, 'release', [{ id: c.id, delay_seconds: 60 }, { id: a.id }]);
  assert.deepEqual([released[0]?.state, released[1]?.problem?.code], ['scheduled', 'lease-lost']);
});

test('a call that cannot be read as a whole is refused as a whole', async () => {
  const { port, jobs } = await serve();
  const [a] = (await leased(port, jobs, 1)) as [{ id: string; job_id: string }];
  const wrong: [number, string, string][] = [
    [422, 'validation-failed', '{"leases":[]}'],
    [422, 'validation-failed', '{"leases":{}}'],
    [400, 'malformed-json', ''],
    [422, 'validation-failed', `{"leases":[{"id":"${a.id}"}],"atomic":true}`],
    [422, 'validation-failed', JSON.stringify({ leases: Array(1_001).fill({ id: a.id }) })],
    [400, 'malformed-json', `{"leases":[{"id":"${a.id}"},{]}`],
    [413, 'payload-too-large', `{"leases":[{"id":"${a.id}","result":"${'x'.repeat(8 * 1024 * 1024)}"}]}`],
  ];
  for (const [status, code, body] of wrong) {
    const answer = await post(port, '/v1/leases/complete', body);
    assert.deepEqual([answer.status, problemOf(answer).code], [status, code], body.slice(0, 40));
  }
  assert.equal(jobs.jobs.get(a.job_id)?.facts.state, 'running');
});
