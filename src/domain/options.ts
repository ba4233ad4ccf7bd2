// What few jobs have: kept in one column, null for all others, so that a job without any of it costs nothing.
// Invariant: the members are written once, at submit, but for the lane of a callback, which follows a job to another queue;
// nothing but the job's own type is needed to run it.
// Next room: store/inserts.ts, which keeps it; record.ts shows it.
import type { TerminalState } from './job.ts';
import type { Unique } from './unique.ts';

/** Where a job is pushed: Errand calls this URL instead of handing the job to a worker. */
export interface Target {
  readonly url: string;
  readonly method: 'POST' | 'PUT' | 'PATCH';
  readonly headers?: Readonly<Record<string, string>> | undefined;
}

/** Whom to tell of the end of a job: a push job of its own is made for it. `lane` is where that job stands. */
export interface Callback {
  readonly url: string;
  readonly events: readonly TerminalState[];
  readonly headers?: Readonly<Record<string, string>> | undefined;
  readonly lane: number;
}

/** rerun: it runs after the job that ran when it came. parked: it fell due while another job held its key. */
export const blockedReasons = ['rerun', 'parked'] as const;

export type BlockedReason = (typeof blockedReasons)[number];

/** The options of a job, absent where it has none. */
export interface JobOptions {
  /** The job's type, where the route of its lane is not just that: pushed jobs. */
  readonly type?: string;
  readonly target?: Target;
  readonly callback?: Callback;
  /** The key of which it may be the holder. */
  readonly unique?: Unique;
  /** While it waits: the holder of its key, and why it waits. Told of a job, kept nowhere. */
  readonly blocked_by?: string;
  readonly blocked_reason?: BlockedReason;
  /** The media type of the payload; absent = application/json. */
  readonly content_type?: string;
  /** Whether the payload is kept as base64, because its bytes are no text that Postgres can hold. */
  readonly payload_base64?: boolean;
  /** No further attempt begins later than this after the job was due first. */
  readonly max_age_seconds?: number;
  /** W3C trace context of the submit. */
  readonly traceparent?: string;
  readonly tracestate?: string;
  /** The job this one repeats. */
  readonly retry_of?: string;
  /** The slot that made the job. */
  readonly schedule?: { readonly name: string; readonly slot: string };
  /** The job of whose end this one tells. */
  readonly callback_of?: string;
}

/** The route of the lane in which pushed jobs of a type stand; no type can be called so. */
export function pushRoute(type: string): string {
  return `${pushPrefix}${type}`;
}

/** Whether the jobs of a lane are pushed. */
export function isPushed(route: string): boolean {
  return route.startsWith(pushPrefix);
}

/** The route of the lane in which an operation holds jobs of another route; nobody takes jobs from it. */
export function holdRoute(operation: string, route: string): string {
  return `${holdPrefix}${operation}.${route}`;
}

/** Whether the jobs of a lane are held by an operation. */
export function isHeld(route: string): boolean {
  return route.startsWith(holdPrefix);
}

/** The type of the jobs of a lane. */
export function typeOf(route: string): string {
  if (isHeld(route)) return typeOf(route.slice(route.indexOf('.', holdPrefix.length) + 1));
  return isPushed(route) ? route.slice(pushPrefix.length) : route;
}

/** Every route under which jobs of a type may stand. */
export function routesOf(type: string): string[] {
  return [type, pushRoute(type)];
}

/** The operation that holds the jobs of a lane back, by its route; null where none does. */
export function heldRoute(route: string): string | null {
  return /^:hold\.(\d+)\./.exec(route)?.[1] ?? null;
}

const pushPrefix = ':push.';
const holdPrefix = ':hold.';

/** The type of the jobs that tell of an end. */
export const callbackType = 'errand.callback';
