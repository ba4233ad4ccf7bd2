// Proves that the registry holds together and that a problem is told in the form of RFC 9457.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Problem, toBody } from '../../src/domain/problem.ts';
import {
  isProblemSlug,
  problemIndex,
  problemPage,
  problemSlugs,
  problems,
} from '../../src/domain/problems.ts';

test('every problem has a client or server error status, a title and two sentences', () => {
  for (const slug of problemSlugs()) {
    const entry = problems[slug];
    assert.match(slug, /^[a-z0-9]+(-[a-z0-9]+)*$/);
    assert.ok(entry.status >= 400 && entry.status < 600, slug);
    assert.doesNotMatch(entry.title, /\.$/);
    assert.match(entry.meaning, /\.$/, slug);
    assert.match(entry.remedy, /\.$/, slug);
  }
});

test('titles name one problem each', () => {
  const titles = problemSlugs().map((slug) => problems[slug].title);
  assert.equal(new Set(titles).size, titles.length);
});

test('every 503 says when to come back', () => {
  for (const slug of problemSlugs().filter((slug) => problems[slug].status === 503)) {
    const problem = new Problem(slug, { detail: 'x' });
    assert.match(problem.headers['retry-after'] ?? '', /^[1-9][0-9]*$/, slug);
    assert.equal(problem.retryable, true, slug);
  }
});

test('a Retry-After given by the thrower wins over the one of the registry, whatever its case', () => {
  const problem = new Problem('draining', { detail: 'x', headers: { 'Retry-After': '7' } });
  assert.deepEqual(problem.headers, { 'Retry-After': '7' });
});

test('the body carries the members of RFC 9457 and those of the house', () => {
  const problem = new Problem('expectation-timeout', {
    detail: 'not started within 10 s; the job was cancelled and will not run',
    extra: { executed: false, waited_ms: 10004 },
    job: { id: '48213', state: 'cancelled' },
  });
  assert.deepEqual(toBody(problem, 'req-1'), {
    type: '/problems/expectation-timeout',
    title: 'Synchronous wait ran out',
    status: 417,
    detail: 'not started within 10 s; the job was cancelled and will not run',
    code: 'expectation-timeout',
    executed: false,
    waited_ms: 10004,
    job: { id: '48213', state: 'cancelled' },
    request_id: 'req-1',
    retryable: true,
  });
});

test('faults and instance appear only when there are some', () => {
  const errors = [{ pointer: '#/queue', code: 'unknown_member', detail: 'not known' }];
  const told = toBody(new Problem('validation-failed', { detail: 'x', errors, instance: '/v1/jobs' }), 'r');
  assert.deepEqual(told.errors, errors);
  assert.equal(told.instance, '/v1/jobs');
  const silent = toBody(new Problem('validation-failed', { detail: 'x' }), 'r');
  assert.deepEqual(Object.keys(silent), [
    'type',
    'title',
    'status',
    'detail',
    'code',
    'request_id',
    'retryable',
  ]);
});

test('an extra cannot replace a member of the form', () => {
  // @ts-expect-error: `status` belongs to the form
  new Problem('internal', { detail: 'x', extra: { status: 200 } });
});

test('the cause stays out of the body', () => {
  const problem = new Problem('internal', { detail: 'x', cause: new Error('password=hunter2') });
  assert.ok(problem.cause instanceof Error);
  assert.doesNotMatch(JSON.stringify(toBody(problem, 'r')), /hunter2/);
});

test('the status of a dead job and the advice to retry can be given', () => {
  const problem = new Problem('job-failed', { detail: 'x', status: 502, retryable: true });
  assert.deepEqual([problem.status, problem.retryable], [502, true]);
});

test('only listed slugs are slugs', () => {
  assert.equal(isProblemSlug('not-found'), true);
  for (const text of ['constructor', '__proto__', 'toString', '']) assert.equal(isProblemSlug(text), false);
});

test('the page of a problem names its code, its status and the remedy', () => {
  const page = problemPage('payload-too-large');
  assert.match(page, /^# The body is too large\n/);
  for (const text of ['`payload-too-large`', '| status | 413 |', problems['payload-too-large'].remedy]) {
    assert.ok(page.includes(text), text);
  }
  for (const slug of problemSlugs()) assert.ok(problemIndex().includes(`(${slug}.md)`));
});
