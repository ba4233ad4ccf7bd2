// Proves that a lease id names what it was issued for and that nobody else can write one.

import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { issueLeaseId, readLeaseId } from '../../src/domain/lease-id.ts';

const secret = Buffer.alloc(32, 7);
const other = Buffer.alloc(32, 8);
const started_at = new Date('2026-01-02T03:04:05.678Z');
const start = {
  lease: '91',
  job_id: '48213',
  epoch: 3,
  attempt: 2,
  lane: 7,
  prio: 5,
  owner: 12,
  started_at,
  callback: true,
};

const anyId = fc.bigInt({ min: 1n, max: 2n ** 63n - 1n }).map(String);
const upTo = (max: number) => fc.integer({ min: 0, max });
const anyStart = fc.record(
  {
    lease: anyId,
    job_id: anyId,
    epoch: upTo(2 ** 32 - 1),
    attempt: upTo(2 ** 16 - 1),
    lane: upTo(2 ** 32 - 1),
    prio: upTo(127),
    owner: upTo(2 ** 32 - 1),
    started_at: fc.date({ noInvalidDate: true }),
    callback: fc.boolean(),
  },
  { noNullPrototype: true },
);

test('what was issued is read back, as URL-safe text of one length', () => {
  fc.assert(
    fc.property(anyStart, (issued) => {
      const text = issueLeaseId(issued, secret);
      assert.match(text, /^lse_[A-Za-z0-9_-]{76}$/);
      assert.deepEqual(readLeaseId(text, [secret]), issued);
    }),
  );
});

test('every secret of a rotation is accepted, any other is not', () => {
  const text = issueLeaseId(start, secret);
  assert.deepEqual(readLeaseId(text, [other, secret]), start);
  assert.equal(readLeaseId(text, [other]), null);
  assert.equal(readLeaseId(text, []), null);
});

test('no changed character, missing character or added character is accepted', () => {
  const text = issueLeaseId(start, secret);
  for (let at = 0; at < text.length; at += 1) {
    for (const char of ['A', 'b', '-', '_', '+', '/', '=', ' ', '\u0000', 'é']) {
      if (char === text[at]) continue;
      assert.equal(readLeaseId(text.slice(0, at) + char + text.slice(at + 1), [secret]), null);
    }
    assert.equal(readLeaseId(text.slice(0, at) + text.slice(at + 1), [secret]), null);
  }
  assert.equal(readLeaseId(`${text}A`, [secret]), null);
});

test('an id has one spelling: the other base64 alphabet is refused', () => {
  for (let lease = 1; lease < 200; lease += 1) {
    const text = issueLeaseId({ ...start, lease: String(lease) }, secret);
    const respelled = text.slice(0, 4) + text.slice(4).replaceAll('-', '+').replaceAll('_', '/');
    if (respelled !== text) assert.equal(readLeaseId(respelled, [secret]), null);
  }
});

const anyText = fc
  .array(fc.integer({ min: 0, max: 0xffff }), { maxLength: 100 })
  .map((units) => String.fromCharCode(...units));

test('garbage of any length is nobody', () => {
  fc.assert(fc.property(anyText, (text) => readLeaseId(text, [secret]) === null));
  for (const length of [0, 1, 56, 57, 58, 100_000]) {
    assert.equal(readLeaseId(`lse_${randomBytes(length).toString('base64url')}`, [secret]), null);
  }
});

test('a number that does not fit is a fault of the program', () => {
  assert.throws(() => issueLeaseId({ ...start, epoch: -1 }, secret), RangeError);
  assert.throws(() => issueLeaseId({ ...start, job_id: '9223372036854775808' }, secret), RangeError);
});
