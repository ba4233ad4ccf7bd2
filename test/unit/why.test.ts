// What is told of a job's waiting: one decisive reason first, and every other that holds at the same time.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { jobStates } from '../../src/domain/job.ts';
import { type Standing, whyOf } from '../../src/domain/why.ts';

const now = new Date('2026-03-01T12:00:00Z');

const plain: Standing = {
  now,
  id: '7',
  state: 'queued',
  queue: 'mail',
  type: 'send',
  attempt: 0,
  max_attempts: 8,
  cancel_requested: false,
  error: null,
  due: null,
  lease: null,
  line: { prio: 5, ahead: 0, urgent: 0, is_bound: false },
  blocked_on: null,
  held_by: null,
  pauses: [],
  takers: { workers: 1, slots: 1, running: 0 },
};

const causesOf = (job: Partial<Standing>) => whyOf({ ...plain, ...job }).map(({ cause }) => cause);

test('every state has a reason, and each says what would release it', () => {
  for (const state of jobStates) {
    const reasons = whyOf({ ...plain, state });
    assert.ok(reasons.length > 0, state);
    for (const { detail, release } of reasons) {
      assert.ok(detail !== '' && release !== '', state);
      assert.doesNotMatch(release, /…/, 'a call that is named can be made as it stands');
    }
  }
});

test('what operators set comes before what workers lack, and all of it is told', () => {
  const pause = { of: 'queue', since: now, until: null, reason: 'bad deploy' } as const;
  const causes = causesOf({
    held_by: '7',
    pauses: [pause, { ...pause, of: 'type' }],
    takers: { workers: 0, slots: 0, running: 0 },
    line: { prio: 25, ahead: 3, urgent: 0, is_bound: false },
  });
  assert.deepEqual(causes, ['held', 'queue_paused', 'type_paused', 'no_worker', 'suspect', 'behind_others']);
});

test('a job that waits for its moment in a paused queue is told of both', () => {
  const pauses = [{ of: 'queue', since: now, until: null, reason: null }] as const;
  assert.deepEqual(causesOf({ state: 'scheduled', due: now, pauses }), ['scheduled', 'queue_paused']);
  assert.deepEqual(causesOf({ state: 'retrying', due: now, pauses }), ['backing_off', 'queue_paused']);
});

test('a pause that ends by itself says when', () => {
  const until = new Date('2026-03-01T13:00:00Z');
  const [reason] = whyOf({ ...plain, pauses: [{ of: 'type', since: now, until, reason: 'load' }] });
  assert.equal(reason?.until, until);
  assert.match(
    reason?.detail ?? '',
    /type send of queue mail is paused since .* until 2026-03-01T13.*: load$/,
  );
  assert.match(reason?.release ?? '', /\{"types":\["send"\]\}, or that moment$/);
});

test('a lease that has run out is told as such, not as running', () => {
  const lease = { worker: 'w', started_at: now, until: now, deadline: now };
  assert.deepEqual(causesOf({ state: 'running', lease }), ['lease_ran_out']);
  const later = new Date(now.getTime() + 1);
  assert.deepEqual(causesOf({ state: 'running', lease: { ...lease, until: later } }), ['running']);
  assert.deepEqual(
    causesOf({ state: 'running', lease: { ...lease, until: later }, cancel_requested: true }),
    ['cancel_requested', 'running'],
  );
});

test('workers without a free place keep it waiting; one free place does not', () => {
  assert.deepEqual(causesOf({ takers: { workers: 2, slots: 4, running: 4 } }), ['workers_busy']);
  assert.deepEqual(causesOf({ takers: { workers: 2, slots: 4, running: 3 } }), ['ready']);
});

test('a blocked job names the job it waits for', () => {
  const [reason] = whyOf({ ...plain, state: 'blocked', blocked_on: '41' });
  assert.equal(reason?.job_id, '41');
});

test('a count that was cut says so', () => {
  const [reason] = whyOf({ ...plain, line: { prio: 5, ahead: 1_000, urgent: 0, is_bound: true } });
  assert.match(reason?.detail ?? '', /^at least 1000 jobs stand before it/);
});

test('more urgent jobs that go first are told of, and nothing else is where only they do', () => {
  const detailOf = (ahead: number, urgent: number) =>
    whyOf({ ...plain, line: { prio: 5, ahead, urgent, is_bound: false } })[0]?.detail;
  assert.equal(detailOf(0, 2), '2 more urgent jobs go first');
  assert.equal(detailOf(1, 1), '1 job stands before it in its line, and 1 more urgent job goes first');
});
