// Seals are HMAC-SHA256 and nothing else: the runtime's own implementation makes the same of every key and message.
import assert from 'node:assert/strict';
import { createHmac } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { hmac } from '../../src/domain/sealing.ts';

const bytes = (maxLength: number) => fc.uint8Array({ maxLength }).map((array) => Buffer.from(array));

test('a seal is what the runtime’s own HMAC says, for keys and messages of any length', () => {
  fc.assert(
    fc.property(bytes(200), fc.string({ unit: 'binary-ascii' }), bytes(300), (key, head, body) => {
      const own = createHmac('sha256', key).update(head).update(body);
      const expected = own.digest();
      assert.equal(hmac(key, head, body, 'base64'), expected.toString('base64'));
      // The state of the key is as it was.
      assert.equal(hmac(key, head, body, 'base64url'), expected.toString('base64url'));
    }),
    { numRuns: 2_000 },
  );
});
