// Handlers: functions that run jobs inside Errand. A folder of modules is loaded once at start; each default export is
// made by defineHandler.
// Next room: call.ts, which calls them.
import { readdir } from 'node:fs/promises';
import { registerHooks } from 'node:module';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { ErrorClass } from '../../domain/outcome.ts';

/** What a handler is told of the start it runs. */
export interface HandlerContext {
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
  /** Aborts at the deadline, on cancel, when the lease is lost and when a drain runs out of time. */
  signal: AbortSignal;
}

/** A handler: gets the parsed payload; what it returns (JSON) is the result, undefined = none. */
export interface Handler {
  type: string;
  run(payload: unknown, context: HandlerContext): unknown;
}

/** Declares a handler. `run` gets the payload typed as `Payload`: check it, callers can send anything. */
export function defineHandler<Payload = unknown>(handler: {
  type: string;
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

/** Loads every module of a folder; throws when one is not a handler or a type is served twice. */
export async function loadHandlers(folder: string): Promise<Map<string, Handler>> {
  const handlers = new Map<string, Handler>();
  // A folder outside this package could not find "errand" by itself.
  const errand = import.meta.resolve('errand');
  registerHooks({
    resolve: (specifier, context, next) =>
      specifier === 'errand' ? { url: errand, shortCircuit: true } : next(specifier, context),
  });
  const names = await readdir(folder).catch((cause) => {
    throw new Error(`ERRAND_HANDLERS_DIR "${folder}" cannot be read; make the folder or unset the variable`, {
      cause,
    });
  });
  const files = names.filter((file) => /\.(ts|js|mjs)$/.test(file) && !file.endsWith('.d.ts')).sort();
  for (const file of files) {
    const module = (await import(pathToFileURL(resolve(join(folder, file))).href)) as { default?: Handler };
    const handler = module.default;
    if (typeof handler?.type !== 'string' || typeof handler.run !== 'function') {
      throw new Error(`${file} in ${folder} has no default export made by defineHandler`);
    }
    if (handlers.has(handler.type))
      throw new Error(`type "${handler.type}" is served twice; the second is ${file}`);
    handlers.set(handler.type, handler);
  }
  return handlers;
}
