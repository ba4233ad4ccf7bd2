// HMAC-SHA256 (RFC 2104) in two one-shot hashes, over states of the key that are prepared once, with text for an answer: 0.6 us
// where an Hmac object and a Buffer take 2.4 (Node 24.21). Every push needs one, and every job of a pull worker two.
// Invariant: a key is remembered no longer than whoever holds the secret.
// Next room: lease-id.ts and signature.ts, which seal.
import { Buffer } from 'node:buffer';
import { hash } from 'node:crypto';

/** The HMAC of `head`, ASCII, and `body`, one after the other. */
export function hmac(secret: Buffer, head: string, body: Buffer, digits: 'base64' | 'base64url'): string {
  const { inner, outer } = statesOf(secret);
  const message = Buffer.allocUnsafe(blockBytes + head.length + body.length);
  inner.copy(message);
  message.write(head, blockBytes, 'latin1');
  body.copy(message, blockBytes + head.length);
  // The second half of this state is written anew each time; nothing else runs in between.
  outer.write(hash('sha256', message, 'binary'), blockBytes, 'latin1');
  return hash('sha256', outer, digits);
}

interface States {
  inner: Buffer;
  outer: Buffer;
}

const blockBytes = 64;
const hashBytes = 32;
const states = new WeakMap<Buffer, States>();

function statesOf(secret: Buffer): States {
  const known = states.get(secret);
  if (known !== undefined) return known;
  const key = secret.length > blockBytes ? hash('sha256', secret, 'buffer') : secret;
  const made = { inner: Buffer.alloc(blockBytes, 0x36), outer: Buffer.alloc(blockBytes + hashBytes, 0x5c) };
  for (const [i, byte] of key.entries()) {
    made.inner[i] = byte ^ 0x36;
    made.outer[i] = byte ^ 0x5c;
  }
  states.set(secret, made);
  return made;
}
