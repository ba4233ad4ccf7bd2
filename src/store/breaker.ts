// Keeps a process from storming a Postgres that is away: once two connections in a row could not be made, one attempt is let
// through about once a second, for all pools together, and whoever asks meanwhile is refused at once. One that failed may
// have been slow, no more.
// Invariants: connections that stand are never touched; the first attempt that succeeds lets everybody in again.
// Next room: db.ts, whose pools share one.
import pg from 'pg';

export interface Breaker {
  /** The client of pools that ask here before they connect. */
  Client: typeof pg.Client;
}

/** From a failed attempt to the next, in ms; up to half as much is added by chance, so that replicas do not keep step. */
const pause_ms = 1_000;

/** In a row, that say that Postgres is away. */
const most_failures = 2;

/** More than a pool gives an attempt, in ms. */
const longest_attempt_ms = 5_000;

export function breaker(clock = () => performance.now(), random = Math.random): Breaker {
  let failure: Error | null = null;
  let failures = 0;
  let retryAt = 0;

  /** Why no connection is to be tried now; null: one is. */
  function refusal(): Error | null {
    if (failure === null || failures < most_failures) return null;
    if (clock() < retryAt) {
      return new Error(`no new connection is tried for a moment: ${failure.message}`, { cause: failure });
    }
    // Whoever asks while this one hangs is refused as well.
    retryAt = clock() + longest_attempt_ms;
    return null;
  }

  function tried(error: Error | null): void {
    failure = error;
    failures = error === null ? 0 : failures + 1;
    retryAt = clock() + pause_ms * (1 + random() / 2);
  }

  class Client extends pg.Client {
    override connect(): Promise<this>;
    override connect(callback: (error: Error) => void): void;
    override connect(callback?: (error: Error) => void): Promise<this> | undefined {
      const refused = refusal();
      const connecting = refused === null ? super.connect() : Promise.reject(refused);
      const told = connecting.then(
        () => {
          tried(null);
          return this;
        },
        (error: Error) => {
          if (refused === null) tried(error);
          throw error;
        },
      );
      if (callback === undefined) return told;
      told.then(() => (callback as () => void)(), callback);
      return undefined;
    }
  }
  return { Client };
}
