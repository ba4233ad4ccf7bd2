// How often, how long and how late a job is tried: its own word, else that of its type, else that of its queue; and what
// does not count as a try.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { defineHandler } from '../../src/errand.ts';
import { calling } from '../support/call.ts';
import { startErrand, type TestErrand } from '../support/errand.ts';

let errand: TestErrand;
const call = calling(() => errand.url);
const { get, post } = call;

const seen: { type: string; attempt: number; epoch: number }[] = [];
const sleepy = defineHandler({
  type: 'sleepy',
  run(_, { attempt, epoch, snooze }) {
    seen.push({ type: 'sleepy', attempt, epoch });
    if (epoch <= 2) snooze(1);
    return epoch;
  },
});
const threaded = defineHandler({
  type: 'sound',
  run(_, context) {
    context.snooze(0.5);
  },
});

before(async () => {
  errand = await startErrand({ env: { ERRAND_TEST_CLOCK: 'true' }, handlers: [sleepy, threaded] });
});

after(() => errand.stop());

const set = {
  defaults: {
    max_attempts: 5,
    timeout_seconds: 50,
    backoff: { strategy: 'fixed', base_seconds: 3, jitter: 'none' },
  },
  types: { mail: { max_attempts: 3, max_age_seconds: 600 } },
};

const ahead = (advance_seconds: number) => post('/test/clock', { advance_seconds });

async function lease(queue: string) {
  const { json } = await post('/v1/leases', { worker: 'w', queues: [queue], lease_seconds: 30 });
  return json.leases[0];
}

test('a job has what it says, else what is set of its type, else of its queue, else of the product', async () => {
  const made = await call('PUT', '/v1/queues/set', set);
  assert.ok(made.status === 201 || made.status === 200, JSON.stringify(made.json));
  const cases: [object, object][] = [
    [
      { queue: 'unset', type: 'mail' },
      { max_attempts: 8, timeout_seconds: 60 },
    ],
    [{ type: 'other' }, { max_attempts: 5, timeout_seconds: 50, base: 3 }],
    [{ type: 'mail' }, { max_attempts: 3, timeout_seconds: 50, base: 3, max_age_seconds: 600 }],
    [
      {
        type: 'mail',
        max_attempts: 8,
        timeout_seconds: 60,
        backoff: { base_seconds: 2 },
        max_age_seconds: 9,
      },
      { max_attempts: 8, timeout_seconds: 60, base: 2, max_age_seconds: 9 },
    ],
  ];
  for (const [own, wanted] of cases) {
    const body = { queue: 'set', ...own };
    const answers = [
      (await post('/v1/jobs', body)).json,
      (await post('/v1/jobs/batch', { jobs: [body] })).json.jobs[0],
      (await post('/v1/jobs/validate', body)).json.job,
    ];
    answers.push((await get(`/v1/jobs/${answers[0].id}`)).json);
    for (const { max_attempts, timeout_seconds, max_age_seconds, backoff } of answers) {
      const told = { max_attempts, timeout_seconds, max_age_seconds, base: backoff?.base_seconds };
      assert.deepEqual(JSON.parse(JSON.stringify(told)), wanted, JSON.stringify(body));
    }
  }
  const raw = await post('/v1/queues/set/jobs', '1', { 'errand-type': 'mail', 'errand-max-age': '70' });
  assert.deepEqual([raw.json.max_attempts, raw.json.max_age_seconds], [3, 70]);
  await call('PUT', '/v1/schedules/policy', { every_seconds: 3_600, job: { queue: 'set', type: 'mail' } });
  const fired = await post('/v1/schedules/policy/trigger');
  assert.deepEqual([fired.json.max_attempts, fired.json.max_age_seconds], [3, 600]);
  const { json } = await post('/v1/jobs/validate', { queue: 'set', type: 'other' });
  assert.deepEqual(json.attempts.at(-1), { attempt: 5, after_seconds: { min: 3, max: 3 } });
});

test('a setting that is changed later changes no job that is there', async () => {
  await call('PUT', '/v1/queues/kept', { defaults: { max_attempts: 2 } });
  const { json } = await post('/v1/jobs', { queue: 'kept', type: 'w' });
  await call('PATCH', '/v1/queues/kept', { defaults: { max_attempts: 9 } }, { 'if-match': '*' });
  assert.equal((await get(`/v1/jobs/${json.id}`)).json.max_attempts, 2);
});

test('no attempt begins after max_age_seconds: a failure that would wait longer is the last', async () => {
  const { json: job } = await post('/v1/jobs', {
    ...{ queue: 'aged', type: 'w', max_age_seconds: 60 },
    backoff: { strategy: 'fixed', base_seconds: 40, jitter: 'none' },
  });
  const fail = async () =>
    (await post(`/v1/leases/${(await lease('aged')).id}/fail`, { class: 'rate_limited', message: 'busy' }))
      .json;
  assert.equal((await fail()).state, 'retrying');
  await ahead(41);
  assert.equal((await fail()).state, 'dead');
  const { json } = await get(`/v1/jobs/${job.id}`);
  assert.deepEqual([json.attempt, json.error.class, json.error.source], [2, 'rate_limited', 'worker']);
  assert.match(json.error.detail, /^busy; no further attempt may begin: .* max_age_seconds$/);
  const { json: letters } = await get('/v1/dead-letters?queue=aged');
  const { json: whole } = await get(`/v1/jobs/${job.id}?include=attempts`);
  assert.equal(letters.items[0].fingerprint, whole.attempts[1].fingerprint);
});

test('an attempt that came to be due too late is not begun, and the job is dead of its last failure', async () => {
  const { json: job } = await post('/v1/jobs', {
    ...{ queue: 'late', type: 'w', max_age_seconds: 60 },
    backoff: { strategy: 'fixed', base_seconds: 5, jitter: 'none' },
  });
  await post(`/v1/leases/${(await lease('late')).id}/fail`, { message: 'no' });
  await ahead(61);
  assert.equal(await lease('late'), undefined);
  const { json } = await get(`/v1/jobs/${job.id}?include=attempts`);
  assert.deepEqual([json.state, json.attempt, json.epoch], ['dead', 1, 2]);
  assert.deepEqual([json.error.class, json.error.source], ['retryable', 'worker']);
  assert.match(json.error.detail, /^no; no further attempt may begin/);
  assert.equal(json.attempts.length, 1);
});

test('the age counts from when a job was due first, and its first start is not bound by it', async () => {
  const { json: job } = await post('/v1/jobs', {
    ...{ queue: 'postponed', type: 'w', max_age_seconds: 60, delay_seconds: 300 },
    backoff: { strategy: 'fixed', base_seconds: 1, jitter: 'none' },
  });
  await ahead(350);
  const { id } = await lease('postponed');
  assert.equal((await post(`/v1/leases/${id}/fail`, {})).json.state, 'retrying');
  await ahead(30);
  assert.equal(await lease('postponed'), undefined);
  assert.equal((await get(`/v1/jobs/${job.id}`)).json.state, 'dead');
});

test('a handler that snoozes is run again later, and no attempt is burnt', async () => {
  const { json: job } = await post('/v1/jobs', { queue: 'z', type: 'sleepy', max_attempts: 1 });
  await errand.next('job.ended', (end) => end.job_id === job.id && end.epoch === 1);
  for (const epoch of [2, 3]) {
    const ended = errand.next('job.ended', (end) => end.job_id === job.id && end.epoch === epoch);
    await ahead(2);
    await ended;
  }
  const { json } = await get(`/v1/jobs/${job.id}?include=attempts`);
  assert.deepEqual([json.state, json.attempt, json.epoch], ['succeeded', 1, 3]);
  assert.deepEqual(
    json.attempts.map((one: { outcome: string; attempt: number }) => [one.outcome, one.attempt]),
    [
      ['succeeded', 1],
      ['snoozed', 1],
      ['snoozed', 1],
    ],
  );
  assert.deepEqual(
    seen.map(({ attempt, epoch }) => [attempt, epoch]),
    [
      [1, 1],
      [1, 2],
      [1, 3],
    ],
  );
  const { json: events } = await get(`/v1/jobs/${job.id}/events`);
  assert.deepEqual(
    events.items.map((one: { data: { state: string } }) => one.data.state),
    ['queued', 'running', 'scheduled', 'running', 'scheduled', 'running', 'succeeded'],
  );
});

test('a snooze that is no time kills the job instead of spinning', async () => {
  const { json: job } = await post('/v1/jobs', { queue: 'z', type: 'sound' });
  await errand.next('job.ended', (end) => end.job_id === job.id);
  const { json } = await get(`/v1/jobs/${job.id}`);
  assert.deepEqual([json.state, json.error.class], ['dead', 'permanent']);
});

test('a pull worker snoozes by a verb of its own; without end it is bound by max_age_seconds', async () => {
  const { json: job } = await post('/v1/jobs', {
    queue: 's',
    type: 'w',
    max_attempts: 1,
    max_age_seconds: 25,
  });
  for (let n = 0; n < 3; n++) {
    const { id } = await lease('s');
    const { status, json } = await post(`/v1/leases/${id}/snooze`, { delay_seconds: 9 });
    assert.deepEqual([status, json.state], [200, 'scheduled']);
    const again = await post(`/v1/leases/${id}/snooze`, { delay_seconds: 9 });
    assert.equal(again.status, 200);
    await ahead(10);
  }
  assert.equal(await lease('s'), undefined);
  const { json } = await get(`/v1/jobs/${job.id}`);
  assert.deepEqual([json.state, json.error.class, json.error.source], ['dead', 'timeout', 'errand']);
  const refused = await post('/v1/leases/lse_x/snooze', { delay_seconds: 0 });
  assert.deepEqual([refused.status, refused.json.code], [422, 'validation-failed']);
});
