// Proves that a cursor says where a list goes on, for its own question only, and that nobody else can write one.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { issueCursor, readCursor } from '../../src/domain/cursor.ts';
import { jobStates } from '../../src/domain/job.ts';
import { type Filter, orderOf, questionOf } from '../../src/domain/listing.ts';
import { errorClasses } from '../../src/domain/outcome.ts';

const secret = Buffer.alloc(32, 7);
const anyKey = fc.array(
  fc.string({ unit: 'binary' }).map((text) => text.toWellFormed()),
  { maxLength: 4 },
);
const anyText = fc.string({ unit: 'binary', maxLength: 100 });
const maybe = <T>(one: fc.Arbitrary<T>) => fc.option(one, { nil: undefined });
const anyFilter: fc.Arbitrary<Filter> = fc.record({
  queue: maybe(fc.string()),
  type: maybe(fc.string()),
  state: maybe(fc.constantFrom(...jobStates)),
  tag: maybe(fc.string()),
  error_class: maybe(fc.constantFrom(...errorClasses)),
  created_after: maybe(fc.constant('2026-01-02T03:04:05Z')),
  created_before: maybe(fc.constant('2026-01-02T03:04:05Z')),
});

test('what was issued is read back, as URL-safe text', () => {
  fc.assert(
    fc.property(anyKey, anyText, (key, question) => {
      const cursor = issueCursor(key, question, secret);
      assert.match(cursor, /^[\w-]+\.[\w-]{22}$/);
      assert.deepEqual(readCursor(cursor, question, secret), key);
    }),
  );
});

test('another question, tenant or secret does not accept it', () => {
  fc.assert(
    fc.property(anyKey, anyFilter, anyFilter, (key, asked, other) => {
      const question = questionOf(0, asked);
      const cursor = issueCursor(key, question, secret);
      const isSame = JSON.stringify(asked) === JSON.stringify(other);
      assert.equal(readCursor(cursor, questionOf(0, other), secret) !== null, isSame);
      assert.equal(readCursor(cursor, questionOf(1, asked), secret), null);
      assert.equal(readCursor(cursor, question, Buffer.alloc(32, 8)), null);
    }),
  );
});

test('a filter that is absent and one that is undefined are the same question', () => {
  assert.equal(questionOf(0, {}), questionOf(0, { queue: undefined, tag: undefined }));
});

test('no changed, missing or added character is accepted', () => {
  const cursor = issueCursor(['48213'], 'all', secret);
  for (let at = 0; at < cursor.length; at += 1) {
    for (const char of ['A', 'b', '-', '_', '+', '/', '=', '.', ' ', '\u0000', 'é']) {
      if (char === cursor[at]) continue;
      assert.equal(readCursor(cursor.slice(0, at) + char + cursor.slice(at + 1), 'all', secret), null);
    }
    assert.equal(readCursor(cursor.slice(0, at) + cursor.slice(at + 1), 'all', secret), null);
  }
  for (const more of ['A', '=', '.', '.A']) assert.equal(readCursor(cursor + more, 'all', secret), null);
});

test('garbage is no cursor', () => {
  fc.assert(fc.property(anyText, (text) => readCursor(text, 'all', secret) === null));
  for (const length of [0, 1, 16, 100_000]) {
    const text = randomBytes(length).toString('base64url');
    assert.equal(readCursor(`${text}.${randomBytes(16).toString('base64url')}`, 'all', secret), null);
  }
});

test('the state decides the order, unless there is a tag', () => {
  const orders = Object.fromEntries(jobStates.map((state) => [state, orderOf({ state })]));
  assert.deepEqual(orders, {
    blocked: 'newest',
    scheduled: 'due',
    queued: 'turn',
    running: 'lease',
    retrying: 'due',
    succeeded: 'newest',
    dead: 'newest',
    cancelled: 'newest',
    expired: 'newest',
  });
  assert.equal(orderOf({}), 'newest');
  for (const state of jobStates) assert.equal(orderOf({ state, tag: 'eu' }), 'newest');
});
