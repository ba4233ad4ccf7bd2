// What an operator sees: totals that equal the jobs, names that Prometheus accepts.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { after, before, test } from 'node:test';
import { defineHandler, JobError } from '../../src/errand.ts';
import { findProgram } from '../support/children.ts';
import { aSubmission, startErrand, type TestErrand } from '../support/errand.ts';

let errand: TestErrand;

const held = Promise.withResolvers<void>();

before(async () => {
  errand = await startErrand({
    env: { ERRAND_LEASE_SECONDS: '30' },
    handlers: [
      defineHandler({ type: 'good', run: () => 1 }),
      defineHandler({ type: 'held', run: () => held.promise }),
      defineHandler({
        type: 'bad',
        run: () => {
          throw new JobError('permanent', 'no');
        },
      }),
    ],
  });
});

after(() => errand.stop());

async function metrics(): Promise<string> {
  return (await fetch(`${errand.url}/metrics`)).text();
}

function sampleOf(text: string, series: string): number {
  const line = text.split('\n').find((one) => one.startsWith(`${series} `));
  return line === undefined ? 0 : Number(line.slice(series.length + 1));
}

test('counts what was submitted and how it ended, and shows what waits', async () => {
  let ends = 0;
  const done = new Promise<void>((resolve) => {
    errand.events.on('job.ended', () => {
      ends++;
      if (ends === 30) resolve();
    });
  });
  for (let n = 0; n < 30; n++)
    await errand.actions.submit(aSubmission({ type: n < 20 ? 'good' : 'bad', queue: 'counted' }));
  for (let n = 0; n < 7; n++)
    await errand.actions.submit(aSubmission({ type: 'unserved', queue: 'counted' }));
  await errand.actions.submit(aSubmission({ type: 'unserved', queue: 'counted', delay_ms: 3_600_000 }));
  await done;
  const text = await metrics();
  assert.equal(
    sampleOf(text, 'errand_jobs_submitted_total{queue="counted",type="good",replayed="false"}'),
    20,
  );
  assert.equal(
    sampleOf(text, 'errand_jobs_finished_total{queue="counted",type="good",outcome="succeeded"}'),
    20,
  );
  assert.equal(sampleOf(text, 'errand_jobs_finished_total{queue="counted",type="bad",outcome="dead"}'), 10);
  assert.equal(
    sampleOf(text, 'errand_attempts_total{queue="counted",type="bad",outcome="dead",class="permanent"}'),
    10,
  );
  assert.equal(sampleOf(text, 'errand_queue_depth{queue="counted",type="unserved",state="queued"}'), 7);
  assert.equal(sampleOf(text, 'errand_queue_depth{queue="counted",type="unserved",state="scheduled"}'), 1);
  assert.equal(sampleOf(text, 'errand_start_latency_seconds_count{queue="counted",type="good"}'), 20);
  assert.equal(sampleOf(text, 'errand_invariant_violations_total'), 0);
});

test('a job that a schedule makes counts as submitted, like any other', async () => {
  const made = errand.next('job.submitted', ({ type }) => type === 'slotted');
  const ends_at = new Date(Date.now() + 1_500).toISOString();
  const put = await fetch(`${errand.url}/v1/schedules/counted`, {
    method: 'PUT',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ every_seconds: 1, ends_at, job: { queue: 'counted', type: 'slotted' } }),
  });
  assert.equal(put.status, 201, await put.text());
  const { job_id } = await made;
  assert.equal((await fetch(`${errand.url}/v1/jobs/${job_id}`)).status, 200);
  const series = 'errand_jobs_submitted_total{queue="counted",type="slotted",replayed="false"}';
  assert.ok(sampleOf(await metrics(), series) >= 1);
});

test('the slots of a process are shown, and how many of them are taken', async () => {
  const started = errand.next('job.claimed', ({ type }) => type === 'held');
  const ended = errand.next('job.ended', ({ type }) => type === 'held');
  await errand.actions.submit(aSubmission({ type: 'held', queue: 'counted' }));
  await started;
  const text = await metrics();
  held.resolve();
  await ended;
  assert.equal(sampleOf(text, 'errand_slots{runner="handlers",state="busy"}'), 1);
  assert.equal(sampleOf(text, 'errand_slots{runner="handlers",state="all"}'), 50);
  assert.match(text, /^errand_slots{runner="pusher",state="busy"} 0$/m);
});

test('labels stay bounded, whatever names callers invent', async () => {
  const types = Array.from({ length: 400 }, (_, n) => `invented-${n}`);
  await Promise.all(types.map((type) => errand.actions.submit(aSubmission({ type, queue: 'labels' }))));
  const series = (await metrics())
    .split('\n')
    .filter((line) => line.startsWith('errand_jobs_submitted_total{'));
  assert.ok(series.length <= 210, `${series.length} series`);
  assert.ok(series.some((line) => line.includes('queue="other"')));
});

test('every metric has a name, a type and a help text that Prometheus accepts', async (t) => {
  const text = await metrics();
  const names = new Set([...text.matchAll(/^# TYPE (\S+)/gm)].map((match) => match[1] as string));
  for (const name of names) {
    assert.match(text, new RegExp(`^# HELP ${name} \\S`, 'm'));
    if (/^# TYPE \S+ counter$/m.test(text.match(new RegExp(`^# TYPE ${name} .*$`, 'm'))?.[0] ?? '')) {
      assert.match(name, /_total$/);
    }
  }
  const promtool = findProgram('promtool');
  if (promtool === null) {
    t.diagnostic('promtool is not installed: its own check was not run');
    return;
  }
  const checked = spawnSync(promtool, ['check', 'metrics'], { input: text, encoding: 'utf8' });
  assert.equal(checked.status, 0, checked.stderr + checked.stdout);
});
