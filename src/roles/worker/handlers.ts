// Handlers: functions that run jobs inside Errand. A folder of modules is loaded once at start; each default export is
// made by defineHandler.
// Next room: call.ts, which calls them; threads.ts, which has threads call them.
import { readdir } from 'node:fs/promises';
import { registerHooks } from 'node:module';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { ErrorClass } from '../../domain/outcome.ts';
import { least_snooze_seconds, most_report_bytes, most_snooze_seconds } from '../../domain/start.ts';

/** The facts of a start, as a handler is told them. */
export interface StartFacts {
  /** The job's id: stable over attempts, the natural idempotency key of its effects. */
  job_id: string;
  queue: string;
  type: string;
  /** 1 for the first attempt. */
  attempt: number;
  max_attempts: number;
  /** The fencing number: grows with every start; write it with effects to refuse those of an older start. */
  epoch: number;
  /** When the attempt must have ended. */
  deadline: Date;
  /** Media type of the payload: application/json unless it was sent as something else. */
  content_type: string;
  /** The schedule that made the job and the slot it was made for; null: a caller submitted it. */
  schedule: { readonly name: string; readonly slot: Date } | null;
  /** The moment the work is for: the slot of a schedule, however late it runs; else when the job was made. */
  scheduled_for: Date;
  /** The trace context the job was submitted with (W3C), to be the parent of what the handler does. */
  traceparent: string | null;
}

/** What a handler is told of the start it runs, and what it can say of it. */
export interface HandlerContext extends StartFacts {
  /** The last checkpoint an earlier start of the job kept; null: none. */
  last_checkpoint: unknown;
  /** Aborts at the deadline, on cancel, when the lease is lost and when a drain runs out of time. */
  signal: AbortSignal;
  /** Says how far the work is, for whoever watches: any JSON up to 64 KiB. Costs nothing to call often. */
  progress(value: unknown): void;
  /** Keeps what the next start of the job can go on from: any JSON up to 64 KiB. Resolves when it is kept. */
  checkpoint(value: unknown): Promise<void>;
  /** Ends the start here: the job runs again after so many seconds (1 to 86,400), and the attempt does not count. */
  snooze(seconds: number): never;
}

/**
 * A handler: gets the value of a JSON payload, the text or the bytes (Uint8Array) of another; what it returns (JSON) is the
 * result, undefined = none.
 */
export interface Handler {
  type: string;
  /** Whether it runs in a thread of its own, because it computes for long without a pause. */
  thread?: boolean;
  /** URL of the module it comes from: a thread loads it again. */
  module?: string;
  run(payload: unknown, context: HandlerContext): unknown;
}

/** Declares a handler. `run` gets the payload typed as `Payload`: check it, callers can send anything. */
export function defineHandler<Payload = unknown>(handler: {
  type: string;
  thread?: boolean;
  run(payload: Payload, context: HandlerContext): unknown;
}): Handler {
  return handler as Handler;
}

const declared: ReadonlySet<string> = new Set(['retryable', 'permanent', 'poison', 'rate_limited']);

/** Thrown by a handler to say what kind of failure it is; any other error is retryable. */
export class JobError extends Error {
  readonly class: Exclude<ErrorClass, 'timeout' | 'lost'>;
  readonly retry_after_seconds: number | null;
  constructor(
    kind: Exclude<ErrorClass, 'timeout' | 'lost'>,
    message: string,
    options: { retry_after_seconds?: number; cause?: unknown } = {},
  ) {
    if (!declared.has(kind))
      throw new TypeError(`"${kind}" is no class of failure; use ${[...declared].join(', ')}`);
    super(message, { cause: options.cause });
    this.class = kind;
    this.retry_after_seconds = options.retry_after_seconds ?? null;
  }
}

/** What `snooze` throws; a handler that catches everything passes it on. */
export class Snooze extends Error {
  readonly delay_ms: number;
  constructor(seconds: number) {
    if (!(seconds >= least_snooze_seconds && seconds <= most_snooze_seconds))
      throw new JobError('permanent', `a snooze takes 1 to 86,400 seconds, not ${seconds}`);
    super(`later: in ${seconds} s`);
    this.delay_ms = Math.round(seconds * 1_000);
  }
}

/** Ends a start by throwing. */
export function snooze(seconds: number): never {
  throw new Snooze(seconds);
}

/** A report as JSON text, or why it cannot be kept. */
export type ReportText = { text: string } | { unfit: string };

/** What a handler reports. */
export function reportText(value: unknown): ReportText {
  const text = jsonText(value);
  if (text === null) return { unfit: 'is no value that JSON has' };
  if (Buffer.byteLength(text) > most_report_bytes)
    return { unfit: `is larger than ${most_report_bytes} bytes` };
  return { text };
}

/** What a handler wants kept; throws when it cannot be. */
export function checkpointText(value: unknown): string {
  const report = reportText(value);
  if ('unfit' in report) throw new JobError('permanent', `the checkpoint ${report.unfit}`);
  return report.text;
}

/** A value as JSON text, or null where JSON has none for it: a function, a BigInt, a cycle. */
export function jsonText(value: unknown): string | null {
  try {
    return JSON.stringify(value) ?? null;
  } catch {
    return null;
  }
}

/** Lets modules of any folder import "errand": one outside this package could not find it by itself. */
export function provideErrand(): void {
  const errand = import.meta.resolve('errand');
  registerHooks({
    resolve: (specifier, context, next) =>
      specifier === 'errand' ? { url: errand, shortCircuit: true } : next(specifier, context),
  });
}

/** Loads every module of a folder; throws when one is not a handler or a type is served twice. */
export async function loadHandlers(folder: string): Promise<Map<string, Handler>> {
  const handlers = new Map<string, Handler>();
  provideErrand();
  const names = await readdir(folder).catch((cause) => {
    throw new Error(`ERRAND_HANDLERS_DIR "${folder}" cannot be read; make the folder or unset the variable`, {
      cause,
    });
  });
  const files = names.filter((file) => /\.(ts|js|mjs)$/.test(file) && !file.endsWith('.d.ts')).sort();
  for (const file of files) {
    const url = pathToFileURL(resolve(join(folder, file))).href;
    const handler = ((await import(url)) as { default?: Handler }).default;
    if (typeof handler?.type !== 'string' || typeof handler.run !== 'function') {
      throw new Error(`${file} in ${folder} has no default export made by defineHandler`);
    }
    if (handlers.has(handler.type))
      throw new Error(`type "${handler.type}" is served twice; the second is ${file}`);
    handler.module = url;
    handlers.set(handler.type, handler);
  }
  return handlers;
}
