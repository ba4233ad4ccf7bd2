// Decides how a submit is answered: Expect (or its twin Errand-Expect, for clients and proxies that cannot pass
// Expect) is a demand, Prefer a wish, and the demand wins. Guards: what cannot be understood is refused before
// anything is stored, and the answer states what was understood. HTTP/1.0 is no special case: only 100-continue
// would be ignored there, and that member is dropped everywhere (docs/contract.md, Modes).
// Next room: http/negotiate.ts, which reads the headers and writes the answer's.

import { Problem } from './problem.ts';

/** A demand for a synchronous answer (docs/contract.md, Modes, row 5). */
export type SyncExpectation = '200-ok' | '201-created' | '204-no-content';

/** One of the four expectations honoured here (docs/contract.md, Modes). */
export type Expectation = '202-accepted' | SyncExpectation;

/** The raw header values; several lines of one header are joined with ", " as node:http does. */
export interface NegotiationHeaders {
  readonly expect?: string | undefined;
  readonly errandExpect?: string | undefined;
  readonly prefer?: string | undefined;
}

/** How long a request may wait, in seconds: without a wish, and at most. */
export interface WaitLimits {
  readonly defaultWaitSeconds: number;
  readonly waitCapSeconds: number;
}

interface Understood {
  /** The value of `Errand-Mode` (docs/contract.md, Modes). */
  readonly errandMode: string;
  /** The value of `Preference-Applied` on a 202, or null when no wish was honoured (RFC 7240 section 3). */
  readonly preferenceApplied: string | null;
  /** The same on an answer that carries the outcome of the job, where `return=minimal` has no effect. */
  readonly preferenceAppliedToOutcome: string | null;
  /** Whether a 202 goes without a body (RFC 7240 section 4.2). */
  readonly returnMinimal: boolean;
}

/** The answer is 202 at once. */
export interface AsyncMode extends Understood {
  readonly kind: 'async';
  readonly expectation: '202-accepted' | null;
}

/** The answer is the outcome when it is there within `wait_seconds`, else 202. */
export interface SoftMode extends Understood {
  readonly kind: 'soft';
  readonly wait_seconds: number;
  /** Whether `respond-async` was wished, too. */
  readonly respondAsync: boolean;
}

/** The answer is the outcome, or 417 after `wait_seconds`; never 202. */
export interface SyncMode extends Understood {
  readonly kind: 'sync';
  readonly expectation: SyncExpectation;
  readonly wait_seconds: number;
}

/** The expectation was not understood: answer `problem`; nothing may be stored. */
export interface RefusedMode extends Understood {
  readonly kind: 'refused';
  readonly problem: Problem;
}

/** A way to answer a submit. */
export type AnswerMode = AsyncMode | SoftMode | SyncMode;

/** What to send as `Errand-Mode` with a refusal. */
export const refusedMode = 'refused';

// Shared, so that the usual request without any of the headers costs nothing.
const plainAsync: AsyncMode = Object.freeze({
  kind: 'async',
  expectation: null,
  errandMode: 'async;expect=none',
  preferenceApplied: null,
  preferenceAppliedToOutcome: null,
  returnMinimal: false,
});

/** Resolves the mode of a submit from its headers, in the exact order of docs/contract.md, Modes. */
export function negotiate(headers: NegotiationHeaders, limits: WaitLimits): AnswerMode | RefusedMode {
  if (headers.expect === undefined && headers.errandExpect === undefined && headers.prefer === undefined) {
    return plainAsync;
  }
  const demand = readDemand(headers.expect, headers.errandExpect);
  if (demand instanceof Problem) return refused(demand);
  const wishes = headers.prefer === undefined ? noWishes : readWishes(headers.prefer);
  if (demand === '202-accepted') return asyncMode(demand, wishes);
  if (demand !== null) return syncMode(demand, wishes, limits);
  return wishes.wait_seconds > 0 ? softMode(wishes, limits) : asyncMode(null, wishes);
}

/** Resolves the mode where the answer is always 202: `202-accepted` may be demanded, a wait is no wish that counts. */
export function negotiateAccepted(headers: NegotiationHeaders): AsyncMode | RefusedMode {
  const refusal = refusalWhereOnly(['202-accepted'], headers.expect, headers.errandExpect);
  if (refusal !== null) return refused(refusal);
  const wishes = headers.prefer === undefined ? noWishes : readWishes(headers.prefer);
  return asyncMode(readDemand(headers.expect, headers.errandExpect) as '202-accepted' | null, wishes);
}

/**
 * Checks the syntax of the expectations alone, rows 1 to 3 of docs/contract.md, Modes: null, or the 417 that can be
 * sent before the body is read (RFC 9110 section 10.1.1).
 */
export function refusal(expect: string | undefined, errandExpect?: string | undefined): Problem | null {
  if (expect === undefined && errandExpect === undefined) return null;
  const demand = readDemand(expect, errandExpect);
  return demand instanceof Problem ? demand : null;
}

/**
 * The 417 for paths that do not negotiate: null when no member but 100-continue (and those in `allowed`, such as
 * 202-accepted for a batch) was sent.
 */
export function refusalWhereOnly(
  allowed: readonly Expectation[],
  expect: string | undefined,
  errandExpect?: string | undefined,
): Problem | null {
  if (expect === undefined && errandExpect === undefined) return null;
  const demand = readDemand(expect, errandExpect);
  if (demand === null || demand instanceof Problem) return demand;
  if (allowed.includes(demand)) return null;
  return new Problem('expectation-impossible', {
    detail: `expectation "${demand}" is not offered on this path; send the request without it`,
    extra: { reason: 'path_does_not_negotiate' },
  });
}

/** The mode of a wish to wait where nobody waits: 202 at once. */
export function atOnce({ respondAsync, returnMinimal }: SoftMode): AsyncMode {
  return asyncMode(null, { wait_seconds: 0, respondAsync, returnMinimal });
}

/** A demand that waits for another time than it came with. */
export function waitingFor(mode: SyncMode, wait_seconds: number): SyncMode {
  const errandMode = `sync;expect="${mode.expectation}";wait=${wait_seconds}`;
  return { ...mode, wait_seconds, errandMode };
}

// Longer than any honest value: all five members several times over. A longer one is not worth reading.
const longestDemand = 512;

function readDemand(
  expect: string | undefined,
  errandExpect: string | undefined,
): Expectation | null | Problem {
  const members = [...membersOf(expect), ...membersOf(errandExpect)];
  const unknown = members.find((member) => !isExpectation(member));
  if (unknown !== undefined) return unknownExpectation(unknown);
  const first = members[0] as Expectation | undefined;
  const other = members.find((member) => member !== first);
  if (first === undefined) return null;
  return other === undefined ? first : conflictingExpectations(first, other);
}

function membersOf(header: string | undefined): string[] {
  if (header === undefined) return [];
  if (header.length > longestDemand) return [header];
  const members = header.split(',').map((member) => member.trim().toLowerCase());
  // RFC 9110 section 5.6.1: empty list members are read and ignored.
  return members.filter((member) => member !== '' && member !== '100-continue');
}

function isExpectation(member: string): member is Expectation {
  return (
    member === '202-accepted' ||
    member === '200-ok' ||
    member === '201-created' ||
    member === '204-no-content'
  );
}

const echoable = /^[\x21\x23-\x5b\x5d-\x7e]{1,40}$/;

function unknownExpectation(member: string): Problem {
  const name = echoable.test(member) ? `expectation "${member}"` : 'an expectation';
  return new Problem('expectation-unknown', {
    detail: `${name} is not known; use 202-accepted, 200-ok, 201-created or 204-no-content`,
  });
}

function conflictingExpectations(one: string, other: string): Problem {
  return new Problem('expectation-conflict', {
    detail: `expectations "${one}" and "${other}" contradict each other; send one of them`,
  });
}

interface Wishes {
  readonly wait_seconds: number;
  readonly respondAsync: boolean;
  readonly returnMinimal: boolean;
}

const noWishes: Wishes = { wait_seconds: 0, respondAsync: false, returnMinimal: false };

// Four times what a header of honest preferences needs; beyond it the wish is ignored, as RFC 7240 allows.
const longestPrefer = 4096;

// RFC 7240 section 2: preference = token [ "=" word ] *( ";" parameter ). Parameters change none of ours. Each
// run of blanks can be matched in one way only, so the time stays linear in the length.
const preferencePattern =
  /^([!#$%&'*+.^_`|~0-9A-Za-z-]+)(?:[ \t]*=[ \t]*(?:([!#$%&'*+.^_`|~0-9A-Za-z-]+)|"((?:[^"\\]|\\.)*)"))?[ \t]*(?:;|$)/;

function readWishes(prefer: string): Wishes {
  if (prefer.length > longestPrefer) return noWishes;
  const first = new Map<string, string>();
  for (const member of splitOutsideQuotes(prefer)) {
    const match = preferencePattern.exec(member);
    const name = match?.[1]?.toLowerCase();
    // RFC 7240 section 2: of a preference sent twice only the first counts.
    if (match === null || name === undefined || first.has(name)) continue;
    first.set(name, match[2] ?? match[3]?.replaceAll(/\\(.)/g, '$1') ?? '');
  }
  return {
    wait_seconds: secondsOf(first.get('wait')),
    respondAsync: first.get('respond-async') === '',
    returnMinimal: first.get('return')?.toLowerCase() === 'minimal',
  };
}

function splitOutsideQuotes(text: string): string[] {
  if (!text.includes('"')) return text.split(',').map((member) => member.trim());
  const members: string[] = [];
  let start = 0;
  let quoted = false;
  for (let at = 0; at < text.length; at += 1) {
    const char = text[at];
    if (quoted && char === '\\') at += 1;
    else if (char === '"') quoted = !quoted;
    else if (char === ',' && !quoted) {
      members.push(text.slice(start, at).trim());
      start = at + 1;
    }
  }
  members.push(text.slice(start).trim());
  return members;
}

function secondsOf(value: string | undefined): number {
  return value !== undefined && /^[0-9]+$/.test(value) ? Number(value) : 0;
}

function asyncMode(expectation: '202-accepted' | null, wishes: Wishes): AsyncMode {
  const honoured = wishes.respondAsync ? 'respond-async' : null;
  return {
    kind: 'async',
    expectation,
    errandMode: expectation === null ? 'async;expect=none' : 'async;expect="202-accepted"',
    ...applied(honoured, wishes.returnMinimal),
  };
}

function softMode(wishes: Wishes, limits: WaitLimits): SoftMode {
  const wait = Math.min(wishes.wait_seconds, limits.waitCapSeconds);
  const honoured = wishes.respondAsync ? `respond-async, wait=${wait}` : `wait=${wait}`;
  return {
    kind: 'soft',
    wait_seconds: wait,
    respondAsync: wishes.respondAsync,
    errandMode: `soft;wait=${wait}`,
    ...applied(honoured, wishes.returnMinimal),
  };
}

// `wait=0` beside a demand for a synchronous answer is a wish that would defeat the demand: it is dropped.
function syncMode(expectation: SyncExpectation, wishes: Wishes, limits: WaitLimits): SyncMode {
  const wished = wishes.wait_seconds > 0;
  const wait = Math.min(wished ? wishes.wait_seconds : limits.defaultWaitSeconds, limits.waitCapSeconds);
  return {
    kind: 'sync',
    expectation,
    wait_seconds: wait,
    errandMode: `sync;expect="${expectation}";wait=${wait}`,
    ...applied(wished ? `wait=${wait}` : null, false),
  };
}

function refused(problem: Problem): RefusedMode {
  return { kind: 'refused', problem, errandMode: refusedMode, ...applied(null, false) };
}

function applied(honoured: string | null, returnMinimal: boolean): Omit<Understood, 'errandMode'> {
  const withMinimal = honoured === null ? 'return=minimal' : `${honoured}, return=minimal`;
  return {
    preferenceApplied: returnMinimal ? withMinimal : honoured,
    preferenceAppliedToOutcome: honoured,
    returnMinimal,
  };
}
