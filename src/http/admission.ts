// Decides what is taken in at all, before Fastify sees it and before its body is read: when a lasting load is more than this
// process can answer in time, the rest is refused for a fraction of what serving it would cost, and is told when to come again.
// Invariants: what is refused here has left no trace; whoever holds a lease, probes and scrapes are never refused for
// load; a burst that can be worked off is; the bytes of the bodies that are held have a bound.
// Next room: server.ts, which asks; store/line.ts for those who were taken in and wait for the database.
import type { IncomingMessage, ServerResponse } from 'node:http';
import { Problem, toBody } from '../domain/problem.ts';
import type { EventBus } from '../events.ts';
import { requestIdOf } from './context.ts';
import { problemType } from './problem.ts';

/** Limits of what is taken in, in ms, requests and bytes (docs/contract.md, Server limits). */
export interface AdmissionLimits {
  /** What one turn of the event loop may take before it counts as long: what arrives meanwhile waits in its socket. */
  turn_ms: number;
  /** How long turns must have been long, again and again, before anything is refused: what passes sooner is a burst. */
  lasting_ms: number;
  /** How long what is under way may take together at the best pace of late: more of it is too much. */
  answer_ms: number;
  /** So many requests may be under way without being asked how long the turns are. */
  least_open: number;
  /** Requests under way at most, those that wait for a job aside. */
  most_open: number;
  /** Bytes of bodies that may be held, those of lease calls counted apart. */
  held_bytes: number;
}

export const admissionLimits: AdmissionLimits = {
  turn_ms: 20,
  lasting_ms: 250,
  answer_ms: 100,
  least_open: 500,
  most_open: 10_000,
  held_bytes: 128 * 1024 * 1024,
};

export interface AdmissionOptions {
  limits: AdmissionLimits;
  /** Taken as the size of a body that does not tell its own; a larger body than the second is never read. */
  unknown_bytes: number;
  largest_bytes: number;
  /** Callers who are held until something happens: they are under way and cost nothing. */
  held: () => number;
  isDraining: () => boolean;
  events: EventBus;
  observe: (route: string, method: string, status: number, seconds: number) => void;
}

/** Takes a request in, or says false and has answered it with 503. */
export type Admit = (request: IncomingMessage, response: ServerResponse) => boolean;

export function admitting(options: AdmissionOptions): Admit {
  const { limits, held, isDraining, events, observe } = options;
  const most_bytes = Math.max(limits.held_bytes, 4 * options.largest_bytes);
  const bytes = { work: 0, leases: 0 };
  let open = 0;
  let turn: number | null = null;
  /** The first and the last long turn of those that came without a calm between them: its beginning, its end. */
  let firstLong = 0;
  let lastLong = Number.NEGATIVE_INFINITY;
  /** Requests that were answered, not refused, in the present stretch of time, and in each ms of the best of late. */
  const answered = { since: performance.now(), count: 0, perMs: 0 };

  function endTurn(): void {
    const began = turn as number;
    const now = performance.now();
    turn = null;
    if (now - began <= limits.turn_ms) return;
    if (began - lastLong > limits.lasting_ms) firstLong = began;
    lastLong = now;
  }

  /**
   * Whether long turns have come for so long that it is no burst, and more is under way than can be answered in time: by
   * Little's law the number of those under way is their pace times what each of them takes.
   */
  function isBehind(now: number): boolean {
    const under = open - held();
    if (under < limits.least_open) return false;
    const lasts = now - lastLong <= limits.lasting_ms && now - firstLong > limits.lasting_ms;
    return under >= limits.most_open || (lasts && under >= answered.perMs * limits.answer_ms);
  }

  function keepPace(now: number): void {
    const ms = now - answered.since;
    if (ms < pace_ms) return;
    const pace = answered.count / ms;
    // Its own refusals slow a process down; what it could do a moment ago counts on, a little less each time.
    answered.perMs = Math.max(pace, answered.perMs * pace_kept);
    answered.since = now;
    answered.count = 0;
  }

  function refuse(request: IncomingMessage, response: ServerResponse, why: Refusal): false {
    const id = requestIdOf(request);
    // The rest of a large body would be read for nothing.
    const closes = isDraining() || sizeOf(request, options) > small_bytes;
    if (!closes) request.resume();
    response.writeHead(503, headersOf(why, id, closes));
    response.end(why.before + id + why.after);
    events.emit('http.refused', { reason: why.reason });
    observe('refused', request.method as string, 503, 0);
    return false;
  }

  return (request, response) => {
    const url = request.url as string;
    if (!url.startsWith('/v1/')) return true;
    const now = performance.now();
    if (turn === null) {
      turn = now;
      setImmediate(endTurn);
      keepPace(now);
    }
    const isLease = url.startsWith('/v1/leases');
    const kind = isLease ? 'leases' : 'work';
    const size = sizeOf(request, options);
    if (size > 0 && bytes[kind] + size > most_bytes) return refuse(request, response, tooManyBytes);
    if (!isLease && isBehind(now)) return refuse(request, response, overloaded);
    open++;
    bytes[kind] += size;
    response.on('close', () => {
      open--;
      answered.count++;
      bytes[kind] -= size;
    });
    return true;
  };
}

/** The length of a stretch over which the pace is taken, in ms. */
const pace_ms = 250;

const pace_kept = 0.95;
/** A body so small is read to its end, so that the connection can be used on. */
const small_bytes = 64 * 1024;

type Sizes = Pick<AdmissionOptions, 'unknown_bytes' | 'largest_bytes'>;

function sizeOf({ headers }: IncomingMessage, { unknown_bytes, largest_bytes }: Sizes): number {
  const length = headers['content-length'];
  if (length !== undefined) return Math.min(Number(length) || 0, largest_bytes);
  return headers['transfer-encoding'] === undefined ? 0 : unknown_bytes;
}

interface Refusal {
  reason: string;
  /** The body around the id of the request: the rest of it is always the same. */
  before: string;
  after: string;
  /** Bytes of both. */
  bytes: number;
}

function refusal(reason: string, detail: string): Refusal {
  const problem = new Problem('queue-saturated', { detail });
  const [before, after] = JSON.stringify(toBody(problem, '\u0001')).split('\\u0001') as [string, string];
  return { reason, before, after, bytes: Buffer.byteLength(before + after) };
}

const overloaded = refusal(
  'overload',
  'more requests arrive than can be answered in time; try again, more slowly',
);
const tooManyBytes = refusal(
  'bytes',
  'the bodies of the requests under way are as large as may be; try again',
);

/** In the order of node's raw headers: an object would be taken apart again for each answer. */
function headersOf({ bytes }: Refusal, id: string, closes: boolean): string[] {
  // The id of a request is plain ASCII.
  const headers = [...sameHeaders, 'content-length', String(bytes + id.length), 'x-request-id', id];
  if (closes) headers.push('connection', 'close');
  return headers;
}

const sameHeaders = [
  ...['content-type', problemType],
  ...['retry-after', '1'],
  ...['cache-control', 'no-store'],
  ...['x-content-type-options', 'nosniff'],
];
