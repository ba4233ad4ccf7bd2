// Why this room exists: tests of the roles run the whole program in their own process, on a database of their own, and
// await its events instead of sleeping.
// Invariant: everything that was started is drained and dropped by `stop`.
// Next room: src/compose.ts.

import type { Submission } from '../../src/actions/submit.ts';
import { compose, type Errand } from '../../src/compose.ts';
import { readConfig } from '../../src/config.ts';
import type { Handler } from '../../src/errand.ts';
import type { Events } from '../../src/events.ts';
import { cloneDatabase } from './postgres.ts';

export interface TestErrand extends Errand {
  databaseUrl: string;
  /** The next event of a name that fits; fails after `most_ms`, ten seconds unless said otherwise. */
  next<Name extends keyof Events>(
    name: Name,
    fits?: (event: Events[Name]) => boolean,
    most_ms?: number,
  ): Promise<Events[Name]>;
  stop(): Promise<void>;
}

/** Starts Errand on a fresh database, or on `databaseUrl` to be a second replica. */
export async function startErrand(
  options: { env?: Record<string, string>; handlers?: Iterable<Handler>; databaseUrl?: string } = {},
): Promise<TestErrand> {
  const database =
    options.databaseUrl === undefined
      ? await cloneDatabase()
      : { url: options.databaseUrl, drop: async () => {} };
  const config = readConfig({
    PORT: '0',
    DATABASE_URL: database.url,
    ERRAND_LOG_LEVEL: 'silent',
    ERRAND_LEASE_SECONDS: '2',
    ERRAND_DRAIN_DEADLINE_SECONDS: '5',
    ...options.env,
  });
  const errand = await compose(config, { migrate: false, handlers: options.handlers ?? [] });
  let stopped: Promise<void> | undefined;
  return {
    ...errand,
    databaseUrl: database.url,
    next: (name, fits = () => true, most_ms = 10_000) =>
      new Promise((resolve, reject) => {
        const timer = setTimeout(() => {
          off();
          reject(new Error(`no ${name} within ${most_ms} ms`));
        }, most_ms);
        const off = errand.events.on(name, (event) => {
          if (!fits(event)) return;
          clearTimeout(timer);
          off();
          resolve(event);
        });
      }),
    stop() {
      stopped ??= errand.drain(true).then(() => database.drop());
      return stopped;
    },
  };
}

/** A submission with every default. */
export function aSubmission(over: Partial<Submission> = {}): Submission {
  return {
    queue: 'default',
    type: 'work',
    payload: '{}',
    priority: 5,
    max_attempts: 8,
    timeout_seconds: 60,
    run_at: null,
    delay_ms: null,
    expires_at: null,
    backoff: null,
    tags: null,
    options: null,
    idempotency: null,
    ...over,
  };
}
