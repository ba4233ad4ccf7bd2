// The signature of a pushed request by Standard Webhooks 1.0: HMAC-SHA256 over id, time and body, so that a target knows
// who sent it, that nothing was changed, and that it is no old recording.
// Invariants: what is signed are the bytes that are sent; no error tells a secret.
// Next room: push.ts, which writes the headers.

import { Buffer } from 'node:buffer';
import { timingSafeEqual } from 'node:crypto';
import { hmac } from './sealing.ts';

/** What is signed; `timestamp` in seconds since 1970. */
export interface SignedMessage {
  readonly id: string;
  readonly timestamp: number;
  readonly body: Buffer;
}

/** Writes `webhook-signature`: one signature for each secret, in their order. */
export function sign(message: SignedMessage, secrets: readonly Buffer[]): string {
  return secrets.map((secret) => `v1,${digest(message, secret)}`).join(' ');
}

/** Tells whether one of the signatures was made with one of the secrets, within five minutes of `now`. */
export function verify(
  message: SignedMessage,
  signatures: string,
  secrets: readonly Buffer[],
  now: Date,
): boolean {
  const drift_seconds = now.getTime() / 1_000 - message.timestamp;
  // Written so that a timestamp that is no number is refused too.
  if (!(Math.abs(drift_seconds) <= tolerance_seconds)) return false;
  const expected = secrets.map((secret) => Buffer.from(digest(message, secret), 'base64'));
  return signatures
    .split(' ', most_signatures)
    .filter((one) => one.startsWith('v1,'))
    .map((one) => Buffer.from(one.slice(3), 'base64'))
    .some((given) => expected.some((own) => given.length === own.length && timingSafeEqual(given, own)));
}

/** Reads a secret, `whsec_` and the base64 of 24 to 64 bytes; throws RangeError that says how to make one. */
export function parseSigningSecret(text: string): Buffer {
  const digits = text.startsWith(prefix) ? text.slice(prefix.length) : '';
  const bytes = Buffer.from(digits, 'base64');
  // Node skips what is not base64 and needs no padding; the libraries that verify are not so patient.
  if (bytes.toString('base64') !== digits || bytes.length < 24 || bytes.length > 64) {
    throw new RangeError(
      'a signing secret must be "whsec_" and the base64 of 24 to 64 bytes; make one by: echo "whsec_$(openssl rand -base64 32)"',
    );
  }
  return bytes;
}

const prefix = 'whsec_';
const tolerance_seconds = 300;
// A rotation needs two; a list without end would be work for whoever sends it.
const most_signatures = 16;

function digest({ id, timestamp, body }: SignedMessage, secret: Buffer): string {
  return hmac(secret, `${id}.${timestamp}.`, body, 'base64');
}
