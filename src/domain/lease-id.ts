// The handle a worker holds: the sealed facts of one start of one job. It proves by itself that this server issued it, so
// a forged handle is refused without asking the database, and an ending needs no read to be written.
// Invariant: a handle fits one start of one job, and has one spelling.
// Next room: store/endings.ts, where the lease row decides whether the handle still counts.

import { Buffer } from 'node:buffer';
import { timingSafeEqual } from 'node:crypto';
import { hmac } from './sealing.ts';
import type { Start } from './start.ts';

const prefix = 'lse_';
const factBytes = 39;
// A priority is below 30, so its byte has room for a flag.
const callbackBit = 0x80;
// 39 bytes are exactly 52 base64 digits: no padding and no unused bits, so one handle has one spelling.
const factDigits = (factBytes / 3) * 4;
// 18 bytes of the seal.
const tagDigits = 24;
const idLength = prefix.length + factDigits + tagDigits;

/** Writes the public id of a start's lease, sealed with `secret`; throws RangeError when a number does not fit. */
export function issueLeaseId(start: Start, secret: Buffer): string {
  const bytes = Buffer.allocUnsafe(factBytes);
  bytes.writeBigInt64BE(BigInt(start.lease), 0);
  bytes.writeBigInt64BE(BigInt(start.job_id), 8);
  bytes.writeBigInt64BE(BigInt(start.started_at.getTime()), 16);
  bytes.writeUInt32BE(start.epoch, 24);
  bytes.writeUInt32BE(start.lane, 28);
  bytes.writeUInt32BE(start.owner, 32);
  bytes.writeUInt16BE(start.attempt, 36);
  bytes.writeUInt8(start.prio | (start.callback ? callbackBit : 0), 38);
  return prefix + bytes.toString('base64url') + tagOf(bytes, secret);
}

/** Reads a lease id sealed with any of `secrets`, or null for anything this server did not issue. */
export function readLeaseId(text: string, secrets: readonly Buffer[]): Start | null {
  if (text.length !== idLength || !text.startsWith(prefix)) return null;
  const digits = text.slice(prefix.length, -tagDigits);
  const bytes = Buffer.from(digits, 'base64url');
  // Node's decoder also takes "+", "/" and skips what it does not know; only the one spelling counts.
  if (bytes.length !== factBytes || bytes.toString('base64url') !== digits) return null;
  const tag = Buffer.from(text.slice(-tagDigits));
  if (!secrets.some((secret) => isSame(tag, Buffer.from(tagOf(bytes, secret))))) return null;
  return {
    lease: bytes.readBigInt64BE(0).toString(),
    job_id: bytes.readBigInt64BE(8).toString(),
    started_at: new Date(Number(bytes.readBigInt64BE(16))),
    epoch: bytes.readUInt32BE(24),
    lane: bytes.readUInt32BE(28),
    owner: bytes.readUInt32BE(32),
    attempt: bytes.readUInt16BE(36),
    prio: bytes.readUInt8(38) & ~callbackBit,
    callback: (bytes.readUInt8(38) & callbackBit) !== 0,
  };
}

// The label keeps a signature made with the same secret for another purpose from ever being a lease id.
function tagOf(facts: Buffer, secret: Buffer): string {
  return hmac(secret, 'errand lease id 1\0', facts, 'base64url').slice(0, tagDigits);
}

function isSame(given: Buffer, own: Buffer): boolean {
  return given.length === own.length && timingSafeEqual(given, own);
}
