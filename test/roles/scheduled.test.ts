// A job that a schedule made knows its slot, whoever runs it, so that work for yesterday is for yesterday however late it
// runs.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer, type IncomingHttpHeaders } from 'node:http';
import type { AddressInfo } from 'node:net';
import { after, before, test } from 'node:test';
import { defineHandler, JobError } from '../../src/errand.ts';
import { calling } from '../support/call.ts';
import { startErrand, type TestErrand } from '../support/errand.ts';
import { until } from '../support/until.ts';

let errand: TestErrand;
const visits = new Map<string, { headers: IncomingHttpHeaders; body: string }>();
const target = createServer(async (request, response) => {
  const body = Buffer.concat(await request.toArray()).toString();
  visits.set(request.url as string, { headers: request.headers, body });
  response.writeHead(204).end();
});

before(async () => {
  target.listen(0, '127.0.0.1');
  await once(target, 'listening');
  errand = await startErrand({
    env: { ERRAND_ROLES: 'api,worker' },
    handlers: [
      defineHandler({
        type: 'tell',
        run: (_payload, { schedule, scheduled_for }) => ({ schedule, scheduled_for }),
      }),
      defineHandler({
        type: 'fails',
        run: () => {
          throw new JobError('permanent', 'never');
        },
      }),
    ],
  });
});
after(async () => {
  await errand.stop();
  target.close();
});

const call = calling(() => errand.url);
const { get, post } = call;
const at = (path: string) => `http://127.0.0.1:${(target.address() as AddressInfo).port}${path}`;

/** Fires a schedule of this job by hand; answers the job. */
async function fired(name: string, job: object) {
  await call('PUT', `/v1/schedules/${name}`, { every_seconds: 3_600, job });
  const { status, json } = await post(`/v1/schedules/${name}/trigger`);
  assert.equal(status, 202);
  assert.equal(json.schedule.name, name);
  return json;
}

async function resultOf(id: string) {
  const ended = () =>
    get(`/v1/jobs/${id}/result`).then(({ status, json }) => (status === 200 ? json : undefined));
  return until(ended, { what: `the result of job ${id}` });
}

test('a handler is told its schedule and what moment it works for', async () => {
  const { id, schedule } = await fired('handled', { type: 'tell' });
  assert.deepEqual(await resultOf(id), { schedule, scheduled_for: schedule.slot });
  const { json: plain } = await post('/v1/jobs', { type: 'tell' });
  assert.deepEqual(await resultOf(plain.id), { schedule: null, scheduled_for: plain.created_at });
});

test('a pull worker is told it with the job', async () => {
  const { schedule } = await fired('4am.pulled', { type: 'pulled' });
  const { leases } = (await post('/v1/leases', { types: ['pulled'] })).json;
  assert.deepEqual(leases[0].job.schedule, schedule);
});

test('a target is told it in a structured field, and a callback in its body', async () => {
  const { schedule } = await fired('4am.pushed', {
    type: 'pushed',
    target: { url: at('/work') },
    callback: { url: at('/done') },
  });
  const work = await until(() => visits.get('/work'), { what: 'the push' });
  assert.equal(work.headers['errand-schedule'], `"4am.pushed";slot="${schedule.slot}"`);
  const done = await until(() => visits.get('/done'), { what: 'the callback' });
  assert.deepEqual(JSON.parse(done.body).data.schedule, schedule);
  assert.equal(done.headers['errand-schedule'], undefined);
});

test('a repeat is for the same slot', async () => {
  const ended = errand.next('job.ended', ({ type }) => type === 'fails');
  const { id, schedule } = await fired('repeated', { type: 'fails' });
  await ended;
  const { json } = await post(`/v1/jobs/${id}/retry`);
  assert.equal(json.retry_of, id);
  assert.deepEqual(json.schedule, schedule);
});
