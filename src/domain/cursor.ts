// The place at which a list goes on: the key of the last row a caller was shown, bound to what was asked for and sealed,
// so that nobody can build one or carry it over to another list.
// Invariant: a cursor that is accepted was issued for this very question, and has one spelling.
// Next room: listing.ts, which says what a question is; actions/list.ts, which goes on from here.
import { Buffer } from 'node:buffer';
import { createHash, createHmac, timingSafeEqual } from 'node:crypto';

const version = 1;
const sealBytes = 16;

/** Writes the cursor behind `key` in the answer to `question`. */
export function issueCursor(key: readonly string[], question: string, secret: Buffer): string {
  const text = JSON.stringify({ v: version, k: key, f: printOf(question) });
  const facts = Buffer.from(text).toString('base64url');
  return `${facts}.${sealOf(facts, secret).toString('base64url')}`;
}

/** The key in a cursor that was issued for `question`; null for anything else. */
export function readCursor(cursor: string, question: string, secret: Buffer): readonly string[] | null {
  const [facts = '', digits = '', ...more] = cursor.split('.');
  const seal = Buffer.from(digits, 'base64url');
  // Node's decoder skips what it does not know; only the one spelling counts.
  if (more.length > 0 || seal.length !== sealBytes || seal.toString('base64url') !== digits) return null;
  if (!timingSafeEqual(sealOf(facts, secret), seal)) return null;
  // The seal is ours, so what it covers has the form that was written above, or that of another version.
  const { v, k, f } = JSON.parse(Buffer.from(facts, 'base64url').toString()) as Facts;
  return v === version && f === printOf(question) ? k : null;
}

interface Facts {
  v: number;
  k: string[];
  f: string;
}

function printOf(question: string): string {
  return createHash('sha256').update(question).digest().subarray(0, sealBytes).toString('base64url');
}

// The label keeps a signature made with the same secret for another purpose from ever being a cursor.
function sealOf(facts: string, secret: Buffer): Buffer {
  return createHmac('sha256', secret)
    .update('errand cursor 1\0')
    .update(facts)
    .digest()
    .subarray(0, sealBytes);
}
