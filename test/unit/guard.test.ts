// A queue closes at its limit, opens at four fifths of it, and tells when that will be.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { closedBy, opensInSeconds } from '../../src/domain/guard.ts';

const depth = { max_depth: 100, max_oldest_age_seconds: null };
const age = { max_depth: null, max_oldest_age_seconds: 60 };
const holding = (queued: number, oldest_seconds = 0) => ({ queued, oldest_age_ms: oldest_seconds * 1_000 });

test('a queue closes at its depth and opens at four fifths of it', () => {
  assert.equal(closedBy(depth, holding(99), false), null);
  assert.equal(closedBy(depth, holding(100), false), 'max_depth');
  assert.equal(closedBy(depth, holding(81), true), 'max_depth');
  assert.equal(closedBy(depth, holding(80), true), null);
});

test('a queue closes at the age of its oldest job and opens at four fifths of it', () => {
  assert.equal(closedBy(age, holding(1, 59), false), null);
  assert.equal(closedBy(age, holding(1, 60), false), 'max_oldest_age_seconds');
  assert.equal(closedBy(age, holding(1, 49), true), 'max_oldest_age_seconds');
  assert.equal(closedBy(age, holding(1, 48), true), null);
  assert.equal(closedBy(age, { queued: 0, oldest_age_ms: null }, true), null);
});

test('without limits nothing closes', () => {
  const none = { max_depth: null, max_oldest_age_seconds: null };
  assert.equal(closedBy(none, holding(1e9, 1e9), true), null);
});

test('it opens when what is over has gone out, at the rate at which more goes out than comes in', () => {
  assert.equal(opensInSeconds(depth, holding(100), { out: 5, in: 0 }), 4);
  assert.equal(opensInSeconds(depth, holding(120), { out: 5, in: 3 }), 20);
  assert.equal(opensInSeconds(depth, holding(81), { out: 1_000, in: 0 }), 1);
});

test('where nothing goes out faster than it comes in a minute is said', () => {
  assert.equal(opensInSeconds(depth, holding(100), { out: 0, in: 0 }), 60);
  assert.equal(opensInSeconds(depth, holding(100), { out: 2, in: 3 }), 60);
  assert.equal(opensInSeconds(age, holding(100, 90), { out: 0, in: 0 }), 60);
});

test('nobody is sent away for longer than an hour', () => {
  assert.equal(opensInSeconds(depth, holding(1e9), { out: 1, in: 0 }), 3_600);
});

test('the head of a line of even ages moves down them while all grow older', () => {
  // 600 jobs over 60 s, 20 each second: after t s the head is 60 - 2 t + t s old; 48 s after 12 s.
  assert.equal(opensInSeconds(age, holding(600, 60), { out: 20, in: 0 }), 12);
});
