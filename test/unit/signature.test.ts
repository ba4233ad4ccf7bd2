// Signatures by Standard Webhooks: what we sign others can verify, what others sign we can, and nothing else passes. The
// other side is an independent implementation.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { Webhook } from 'standardwebhooks';
import { parseSigningSecret, sign, verify } from '../../src/domain/signature.ts';

const secret = randomBytes(32);
const other = randomBytes(24);
const spelt = (bytes: Buffer) => `whsec_${bytes.toString('base64')}`;
const now = new Date();
const timestamp = Math.floor(now.getTime() / 1_000);
const body = Buffer.from('{"big":12345678901234567890,"text":"grüße","__proto__":null}');
const message = { id: '48213', timestamp, body };
const headersOf = (signature: string) => ({
  'webhook-id': message.id,
  'webhook-timestamp': String(timestamp),
  'webhook-signature': signature,
});

test('an independent implementation verifies what is signed here', () => {
  new Webhook(spelt(secret)).verify(body, headersOf(sign(message, [secret])));
  assert.throws(() => new Webhook(spelt(other)).verify(body, headersOf(sign(message, [secret]))));
});

test('what an independent implementation signed is verified here', () => {
  const signature = new Webhook(spelt(secret)).sign(message.id, now, body.toString());
  assert.equal(verify(message, signature, [secret], now), true);
  assert.equal(verify(message, signature, [other], now), false);
});

test('any bytes can be signed, text or not', () => {
  fc.assert(
    fc.property(fc.uint8Array(), (bytes) => {
      const one = { ...message, body: Buffer.from(bytes) };
      return verify(one, sign(one, [secret]), [secret], now);
    }),
  );
});

test('during a rotation both the newer and the older secret verify, the newer first', () => {
  const signatures = sign(message, [other, secret]);
  assert.equal(signatures.split(' ')[0], sign(message, [other]));
  for (const one of [secret, other]) {
    new Webhook(spelt(one)).verify(body, headersOf(signatures));
    assert.equal(verify(message, signatures, [one], now), true);
  }
});

test('another body, time or id does not verify, nor does a signature that was cut or is of another form', () => {
  const good = sign(message, [secret]);
  assert.equal(verify({ ...message, body: Buffer.from('{}') }, good, [secret], now), false);
  assert.equal(verify({ ...message, timestamp: timestamp + 1 }, good, [secret], now), false);
  assert.equal(verify({ ...message, id: '48214' }, good, [secret], now), false);
  for (const bad of ['', good.slice(0, -4), good.replace('v1,', 'v2,'), good.slice(3), 'v1,', 'v1']) {
    assert.equal(verify(message, bad, [secret], now), false, bad);
  }
});

test('a signature counts for five minutes either way', () => {
  const good = sign(message, [secret]);
  const at = (seconds: number) => verify(message, good, [secret], new Date((timestamp + seconds) * 1_000));
  assert.deepEqual([-300, 300, -301, 301, 360].map(at), [true, true, false, false, false]);
  assert.equal(verify({ ...message, timestamp: Number.NaN }, good, [secret], now), false);
});

test('a list of signatures without end is not read to its end', () => {
  const good = sign(message, [secret]);
  const padded = (n: number) => `${'v1,AAAA '.repeat(n)}${good}`;
  assert.equal(verify(message, padded(15), [secret], now), true);
  assert.equal(verify(message, padded(1_000), [secret], now), false);
});

test('a secret has a prefix and 24 to 64 bytes in base64, and a fault does not tell it', () => {
  for (const size of [24, 32, 64]) {
    const bytes = randomBytes(size);
    assert.deepEqual(parseSigningSecret(spelt(bytes)), bytes);
  }
  const whole = randomBytes(32).toString('base64');
  for (const bad of [
    whole,
    spelt(randomBytes(23)),
    spelt(randomBytes(65)),
    'whsec_',
    '',
    `whsec_!${whole}`,
    `whsec_${whole.slice(0, -1)}`,
  ]) {
    assert.throws(
      () => parseSigningSecret(bad),
      (error: Error) =>
        error instanceof RangeError && (bad.length < 10 || !error.message.includes(bad.slice(6))),
      bad,
    );
  }
});
