// Proves the table of docs/contract.md, States, and what counts as a name, an id and a tag.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  isJobId,
  isJobType,
  isQueueName,
  isTerminal,
  type JobEvent,
  type JobState,
  jobEtag,
  jobStates,
  next,
  terminalStates,
  transitions,
} from '../../src/domain/job.ts';

const events = [...new Set(Object.values(transitions).flatMap((moves) => Object.keys(moves)))] as JobEvent[];

test('a terminal state never changes, whatever happens', () => {
  for (const state of terminalStates) {
    assert.equal(isTerminal(state), true);
    for (const event of events) assert.equal(next(state, event), null, `${state} ${event}`);
  }
});

test('every open state can reach an end', () => {
  const reaches = (state: JobState, seen: Set<JobState>): boolean => {
    if (isTerminal(state)) return true;
    if (seen.has(state)) return false;
    seen.add(state);
    return Object.values(transitions[state]).some((to) => reaches(to, seen));
  };
  for (const state of jobStates) assert.ok(reaches(state, new Set()), state);
});

test('a job runs only from queued, and only a running job succeeds or dies', () => {
  const into = (to: JobState) => jobStates.filter((from) => Object.values(transitions[from]).includes(to));
  assert.deepEqual(into('running'), ['queued']);
  assert.deepEqual(into('succeeded'), ['running']);
  assert.deepEqual(into('dead'), ['running']);
  assert.deepEqual(into('retrying'), ['running']);
  assert.deepEqual(into('expired'), ['blocked', 'scheduled', 'queued', 'retrying']);
  assert.deepEqual(into('cancelled'), ['blocked', 'scheduled', 'queued', 'running', 'retrying']);
});

test('a running job is not cancelled by the request alone', () => {
  assert.equal(next('running', 'cancelled'), null);
  assert.equal(next('running', 'cancel_honoured'), 'cancelled');
  assert.equal(next('running', 'lost'), 'queued');
});

test('any history of events ends where it became terminal', () => {
  fc.assert(
    fc.property(fc.constantFrom(...jobStates), fc.array(fc.constantFrom(...events)), (start, history) => {
      let state: JobState = start;
      for (const event of history) {
        const to = next(state, event);
        if (isTerminal(state)) assert.equal(to, null);
        if (to !== null) state = to;
      }
      assert.ok(jobStates.includes(state));
    }),
  );
});

test('names are 1 to 63 lower-case characters that begin with a letter or digit', () => {
  for (const name of ['a', '0', 'default', 'mail.send', 'a_b-c.d', 'a'.repeat(63)]) {
    assert.ok(isQueueName(name) && isJobType(name), name);
  }
  for (const name of ['', '.a', '-a', '_a', 'A', 'a b', 'a/b', 'é', 'a\n', '\na', "a'--", 'a'.repeat(64)]) {
    assert.ok(!isQueueName(name) && !isJobType(name), name);
  }
});

test('an id is a decimal from 1 to 2^63-1 without leading zeros', () => {
  fc.assert(fc.property(fc.bigInt({ min: 1n, max: 2n ** 63n - 1n }), (id) => isJobId(String(id))));
  fc.assert(fc.property(fc.bigInt({ min: 2n ** 63n, max: 2n ** 80n }), (id) => !isJobId(String(id))));
  for (const text of ['9223372036854775807', '9', '1000000000000000000']) assert.ok(isJobId(text), text);
  for (const text of [
    '',
    '0',
    '00',
    '01',
    '-1',
    '+1',
    '1.0',
    '1e3',
    ' 1',
    '1\n',
    '١',
    'abc',
    '9223372036854775808',
  ]) {
    assert.ok(!isJobId(text), text);
  }
  assert.ok(!isJobId('1'.repeat(10_000)));
});

test('the tag of a job changes with its state, attempt, epoch, cancel request, progress and changes', () => {
  const jobs = jobStates.flatMap((state) =>
    [0, 1, 11].flatMap((attempt) =>
      [0, 1, 11].flatMap((epoch) =>
        [false, true].flatMap((cancel_requested) =>
          [null, 1, 11].map((progress_seq) => ({ state, attempt, epoch, cancel_requested, progress_seq })),
        ),
      ),
    ),
  );
  const all = jobs.flatMap((job) => [null, 1, 11].map((patches) => ({ ...job, patches })));
  const tags = all.map(jobEtag);
  assert.equal(new Set(tags).size, all.length);
  for (const tag of tags) assert.match(tag, /^"[\x21\x23-\x7e]+"$/);
  assert.equal(jobEtag({ state: 'queued', attempt: 0, epoch: 1 }), '"q1.0"');
});
