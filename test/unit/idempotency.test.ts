// Proves that a key is read as docs/contract.md, Idempotency, says and that a fingerprint tells requests apart.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { fingerprint, parseIdempotencyKey } from '../../src/domain/idempotency.ts';

const refused = (header: string) =>
  assert.throws(() => parseIdempotencyKey(header), { slug: 'idempotency-key-malformed', status: 400 });

test('a request without the header has no key', () => {
  assert.equal(parseIdempotencyKey(undefined), null);
});

test('quotes do not count', () => {
  assert.equal(parseIdempotencyKey('"order-4711-mail"'), 'order-4711-mail');
  assert.equal(parseIdempotencyKey('order-4711-mail'), 'order-4711-mail');
  assert.equal(parseIdempotencyKey(`"${'a'.repeat(255)}"`)?.length, 255);
});

test('every key of 1 to 255 allowed characters is taken as it is, quoted or bare', () => {
  const allowed = [...'ABCXYZabcxyz0189._:~/+=-'];
  const key = fc
    .array(fc.constantFrom(...allowed), { minLength: 1, maxLength: 255 })
    .map((all) => all.join(''));
  fc.assert(
    fc.property(key, (text) => {
      assert.equal(parseIdempotencyKey(text), text);
      assert.equal(parseIdempotencyKey(`"${text}"`), text);
    }),
  );
});

test('answers 400 to an empty, long, foreign or doubled key', () => {
  for (const header of ['', '""', '"', '"a', 'a"', 'a'.repeat(256), 'a'.repeat(10_000)]) refused(header);
  for (const header of ['a b', 'a\u0000', 'ключ', 'a\tb', '"a\\"b"', '"a";x=1', 'a, b', '"a", "b"', "a'b"])
    refused(header);
});

test('the refusal does not repeat the key', () => {
  assert.throws(
    () => parseIdempotencyKey('secret key'),
    (problem: Error) => !problem.message.includes('secret'),
  );
});

test('a fingerprint tells route, media type and body apart', () => {
  const same = fingerprint('/v1/jobs', 'application/json', Buffer.from('{}'));
  assert.equal(same.length, 32);
  assert.deepEqual(fingerprint('/v1/jobs', 'Application/JSON; charset=utf-8', Buffer.from('{}')), same);
  assert.notDeepEqual(fingerprint('/v1/jobs', 'application/json', Buffer.from('{ }')), same);
  assert.notDeepEqual(fingerprint('/v1/jobs/batch', 'application/json', Buffer.from('{}')), same);
  assert.notDeepEqual(fingerprint('/v1/jobs', 'text/plain', Buffer.from('{}')), same);
});

test('no text moves from one part of a fingerprint to the next', () => {
  const one = fingerprint('/v1/jobs', 'a/b', Buffer.from('c'));
  assert.notDeepEqual(fingerprint('/v1/jobs', 'a/', Buffer.from('bc')), one);
  assert.notDeepEqual(fingerprint('/v1/job', 'sa/b', Buffer.from('c')), one);
});
