// The handle a worker holds: names lease, job and epoch, and proves by itself that this server issued it, so a
// forged or garbled handle is refused without asking the database. Guards: a handle fits one start of one job.
// Next room: store/claims.ts, where the lease row decides whether the handle still counts.

import { Buffer } from 'node:buffer';
import { createHmac, timingSafeEqual } from 'node:crypto';

/** What a lease id names: the lease row, the job in it and the number of this start (README decision 4). */
export interface LeaseName {
  readonly lease: string;
  readonly job: string;
  readonly epoch: number;
}

const prefix = 'lse_';
const nameBytes = 20;
const tagBytes = 16;
// 36 bytes are exactly 48 base64 digits: no padding and no unused bits, so one handle has one spelling.
const idLength = prefix.length + ((nameBytes + tagBytes) / 3) * 4;

/** Writes the public id of a lease, signed with `secret`; throws RangeError when a number does not fit. */
export function issueLeaseId(name: LeaseName, secret: Buffer): string {
  const bytes = Buffer.allocUnsafe(nameBytes + tagBytes);
  bytes.writeBigInt64BE(BigInt(name.lease), 0);
  bytes.writeBigInt64BE(BigInt(name.job), 8);
  bytes.writeUInt32BE(name.epoch, 16);
  tagOf(bytes.subarray(0, nameBytes), secret).copy(bytes, nameBytes);
  return prefix + bytes.toString('base64url');
}

/** Reads a lease id signed with any of `secrets`, or null for anything this server did not issue. */
export function readLeaseId(text: string, secrets: readonly Buffer[]): LeaseName | null {
  if (text.length !== idLength || !text.startsWith(prefix)) return null;
  const digits = text.slice(prefix.length);
  const bytes = Buffer.from(digits, 'base64url');
  // Node's decoder also takes "+", "/" and skips what it does not know; only the one spelling counts.
  if (bytes.length !== nameBytes + tagBytes || bytes.toString('base64url') !== digits) return null;
  const name = bytes.subarray(0, nameBytes);
  const tag = bytes.subarray(nameBytes);
  if (!secrets.some((secret) => timingSafeEqual(tagOf(name, secret), tag))) return null;
  return {
    lease: bytes.readBigInt64BE(0).toString(),
    job: bytes.readBigInt64BE(8).toString(),
    epoch: bytes.readUInt32BE(16),
  };
}

// The label keeps a signature made with the same secret for another purpose from ever being a lease id.
function tagOf(name: Buffer, secret: Buffer): Buffer {
  return createHmac('sha256', secret)
    .update('errand lease id 1\0')
    .update(name)
    .digest()
    .subarray(0, tagBytes);
}
