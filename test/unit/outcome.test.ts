// Proves the table of docs/contract.md, Outcomes, cell by cell, and what follows a failed attempt.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { type BackoffPolicy, defaultBackoff } from '../../src/domain/backoff.ts';
import { jobStates } from '../../src/domain/job.ts';
import {
  type AnswerBody,
  afterFailure,
  answerFor,
  type ErrorClass,
  type ErrorSource,
  errorClasses,
  type Failure,
  failureStatus,
  type JobFacts,
} from '../../src/domain/outcome.ts';
import { Problem } from '../../src/domain/problem.ts';

const modes = ['soft', '200-ok', '201-created', '204-no-content'] as const;
const record = '/v1/jobs/48213';
const result = '/v1/jobs/48213/result';
const uri = 'https://app.example/things/7';

const aJob = (facts: Partial<JobFacts>): JobFacts => ({
  id: '48213',
  state: 'succeeded',
  has_result: false,
  created_uri: null,
  error: null,
  ...facts,
});

const answer = (
  status: number,
  location: string | null,
  content_location: string | null,
  body: AnswerBody,
) => ({
  status,
  location,
  content_location,
  body,
});

const allModes = (facts: Partial<JobFacts>) => modes.map((mode) => answerFor(mode, aJob(facts)));

test('a job with a result answers it under every demand', () => {
  assert.deepEqual(allModes({ has_result: true }), [
    answer(200, null, result, 'result'),
    answer(200, null, result, 'result'),
    answer(201, result, result, 'result'),
    answer(204, null, result, 'none'),
  ]);
});

test('a job that created a resource names it under every demand', () => {
  assert.deepEqual(allModes({ created_uri: uri }), [
    answer(201, uri, record, 'record'),
    answer(200, null, uri, 'record'),
    answer(201, uri, record, 'record'),
    answer(204, null, uri, 'none'),
  ]);
  assert.deepEqual(allModes({ created_uri: uri, has_result: true }), [
    answer(201, uri, result, 'result'),
    answer(200, null, uri, 'result'),
    answer(201, uri, result, 'result'),
    answer(204, null, uri, 'none'),
  ]);
});

test('a job without content answers its record where a body was demanded', () => {
  assert.deepEqual(allModes({}), [
    answer(204, null, null, 'none'),
    answer(200, null, record, 'record'),
    answer(201, record, record, 'record'),
    answer(204, null, null, 'none'),
  ]);
});

test('a success is never turned into a refusal', () => {
  const facts = fc.record({ has_result: fc.boolean(), created_uri: fc.constantFrom(null, uri) });
  fc.assert(
    fc.property(fc.constantFrom(...modes), facts, (mode, given) => {
      const told = answerFor(mode, aJob(given));
      return told !== null && told.status >= 200 && told.status < 300 && !(told.body instanceof Problem);
    }),
  );
});

test('an open job has no answer yet', () => {
  for (const state of jobStates.filter(
    (state) => !['succeeded', 'dead', 'cancelled', 'expired'].includes(state),
  )) {
    for (const mode of modes) assert.equal(answerFor(mode, aJob({ state })), null);
  }
});

const anError = (cls: ErrorClass, source: ErrorSource) => ({
  class: cls,
  source,
  detail: 'target answered 500',
  http_status: 500,
});

test('a dead job answers 504, 422, 502 or 500 by class and source', () => {
  const status = (cls: ErrorClass, source: ErrorSource) => failureStatus(anError(cls, source));
  for (const source of ['target', 'worker', 'handler', 'errand'] as const)
    assert.equal(status('timeout', source), 504);
  for (const cls of ['permanent', 'poison'] as const) {
    assert.deepEqual([status(cls, 'worker'), status(cls, 'handler')], [422, 422]);
    assert.deepEqual([status(cls, 'target'), status(cls, 'errand')], [502, 500]);
  }
  for (const cls of ['retryable', 'rate_limited', 'lost'] as const) {
    assert.deepEqual([status(cls, 'target'), status(cls, 'worker')], [502, 502]);
    assert.deepEqual([status(cls, 'handler'), status(cls, 'errand')], [500, 500]);
  }
  assert.equal(failureStatus(null), 500);
});

test('a dead job answers job-failed with the job, under every demand', () => {
  const error = anError('retryable', 'target');
  for (const told of allModes({ state: 'dead', error })) {
    assert.ok(told?.body instanceof Problem);
    assert.deepEqual([told.status, told.body.status, told.body.slug], [502, 502, 'job-failed']);
    assert.deepEqual(told.body.job, { id: '48213', state: 'dead', error });
  }
});

test('an expired job answers 504 and a cancelled one 409, under every demand', () => {
  const told = (state: 'expired' | 'cancelled') =>
    allModes({ state }).map(
      (given) => given?.body instanceof Problem && [given.status, given.body.slug, given.body.job?.state],
    );
  assert.deepEqual(
    told('expired'),
    modes.map(() => [504, 'job-expired', 'expired']),
  );
  assert.deepEqual(
    told('cancelled'),
    modes.map(() => [409, 'job-cancelled', 'cancelled']),
  );
});

const plain: BackoffPolicy = { ...defaultBackoff, jitter: 'none' };
const aFailure = (facts: Partial<Failure>): Failure => ({
  class: 'retryable',
  attempt: 1,
  max_attempts: 8,
  retry_after_seconds: null,
  cancel_requested: false,
  left_ms: null,
  backoff: plain,
  random: () => 0.5,
  ...facts,
});

test('permanent and poison end the job at once', () => {
  for (const cls of ['permanent', 'poison'] as const) {
    assert.deepEqual(afterFailure(aFailure({ class: cls })), { outcome: 'dead' });
  }
});

test('any other class is tried again with backoff until the attempts are spent', () => {
  for (const cls of ['retryable', 'rate_limited', 'timeout'] as const) {
    assert.deepEqual(afterFailure(aFailure({ class: cls })), { outcome: 'retry', delay_ms: 2000 });
    assert.deepEqual(afterFailure(aFailure({ class: cls, attempt: 7 })), {
      outcome: 'retry',
      delay_ms: 128_000,
    });
    assert.deepEqual(afterFailure(aFailure({ class: cls, attempt: 8 })), { outcome: 'dead' });
  }
});

test('a lost lease is tried again at once', () => {
  assert.deepEqual(afterFailure(aFailure({ class: 'lost', attempt: 5 })), { outcome: 'retry', delay_ms: 0 });
  assert.deepEqual(afterFailure(aFailure({ class: 'lost', attempt: 8 })), { outcome: 'dead' });
});

test('Retry-After is a lower bound, at most a day, and nonsense is ignored', () => {
  const delay = (retry_after_seconds: number) => {
    const after = afterFailure(aFailure({ class: 'rate_limited', attempt: 2, retry_after_seconds }));
    return after.outcome === 'retry' ? after.delay_ms : null;
  };
  assert.deepEqual([30, 1, 0.5].map(delay), [30_000, 4000, 4000]);
  assert.deepEqual([1e12, Number.POSITIVE_INFINITY].map(delay), [86_400_000, 86_400_000]);
  assert.deepEqual([-5, 0, Number.NaN].map(delay), [4000, 4000, 4000]);
});

test('after a cancel request no new attempt starts', () => {
  fc.assert(
    fc.property(fc.constantFrom(...errorClasses), fc.integer({ min: 1, max: 10 }), (cls, attempt) => {
      const after = afterFailure(aFailure({ class: cls, attempt, cancel_requested: true }));
      assert.deepEqual(after, { outcome: 'cancelled' });
    }),
  );
});
