// What makes two failures the same: type of the job, class, source, HTTP status, message without what varies, and place.
// Failures of one cause share a fingerprint, so they can be counted, redriven and discarded together.
// Invariant: the same failure has the same fingerprint in every process and release; change a rule here and the groups of
// today and tomorrow fall apart.
// Next room: roles/worker/run.ts, actions/pull.ts and actions/chores.ts, which end failed starts.
import { createHash } from 'node:crypto';
import type { ErrorClass, ErrorSource } from './outcome.ts';

/** A failure as it is told apart from others. `place`: where it happened, see placeOfError and placeOfUrl. */
export interface Cause {
  readonly type: string;
  readonly class: ErrorClass;
  readonly source: ErrorSource;
  readonly http_status: number | null;
  readonly message: string | null;
  readonly place: string | null;
}

/** Longest place that counts, in characters. */
export const longest_place = 200;

/** Characters of a message without its variable parts that count: what follows is mostly a dump of something. */
const longest_message = 400;

/** The fingerprint of a failure: 16 hex digits. */
export function fingerprintOf(cause: Cause): string {
  const { type, class: kind, source, http_status } = cause;
  const message = constantPart(cause.message ?? '').slice(0, longest_message);
  const place = constantPart((cause.place ?? '').slice(0, longest_place));
  const facts = JSON.stringify([type, kind, source, http_status, message, place]);
  return createHash('sha256').update(facts).digest('hex').slice(0, 16);
}

/**
 * A text without what varies from one failure to the next: quoted values, addresses, ids, times and all other numbers are
 * `#`, however many of them stand in a row.
 */
export function constantPart(text: string): string {
  return text
    .replace(quoted, '#')
    .replace(email, '#')
    .replace(uuid, '#')
    .replace(ipv6, '#')
    .replace(word, (found) => constantWord(found))
    .replace(row, '#')
    .replace(/\s+/g, ' ')
    .trim();
}

/** Where an error was made: function and file of its first frame outside Node and installed packages, without the line. */
export function placeOfError(stack: string): string | null {
  const frames = stack.split('\n').filter((line) => /^\s+at /.test(line) && !/\bnode:/.test(line));
  const frame = frames.find((line) => !line.includes('/node_modules/')) ?? frames[0];
  if (frame === undefined) return null;
  const [, called = '', where = ''] = /^\s+at (?:(.*) \((.*)\)|.*)$/.exec(frame) ?? [];
  const path = where === '' ? frame.replace(/^\s+at (async )?/, '') : where;
  const file = path.replace(/(:\d+){1,2}$/, '').replace(/[?#].*$/, '');
  const name = file.slice(Math.max(file.lastIndexOf('/'), file.lastIndexOf('\\')) + 1);
  // Awaited or not, it is the same function.
  return `${called.replace(/^async /, '')} ${name}`.trim().slice(0, longest_place);
}

/** Where a push failed: the URL without its query. */
export function placeOfUrl(url: string): string | null {
  const parsed = URL.parse(url);
  return parsed === null ? null : `${parsed.origin}${parsed.pathname}`.slice(0, longest_place);
}

// An apostrophe inside a word opens nothing.
const quoted = /(?<![\p{L}\p{N}])(?:"[^"]*"|'[^']*'|`[^`]*`|“[^”]*”|«[^»]*»)(?![\p{L}\p{N}])/gu;
const email = /[\w.+-]{1,64}@[\w.-]{1,190}\.[a-z]{2,24}/gi;
const uuid = /[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}/gi;
const ipv6 = /(?<![\w:])(?:[0-9a-f]{0,4}:){2,7}[0-9a-f]{0,4}(?![\w:])/gi;
const word = /[\p{L}\p{N}]+/gu;
const row = /(?:(?<=^|[\s([=:,])[-+])?#(?:(?:, |[-.:,+/_ ])?#)*/g;

/** Letters stay; a number is `#`; what mixes both is an id, unless it is a name with a number behind it. */
function constantWord(found: string): string {
  if (/^[0-9a-f]{8,}$/i.test(found)) return '#';
  if (!/\p{N}/u.test(found)) return found;
  const name = /^(\p{L}+)\p{N}+$/u.exec(found)?.[1];
  const isHex = found.length >= 6 && /^[0-9a-f]+$/i.test(found);
  return name === undefined || isHex ? '#' : `${name}#`;
}
