// Why this room exists: facts about other processes (a port answers, a row appears) have no event a test could await.
// Invariant: a wait is limited, and when it fails it says what it waited for and what it saw last.
// Next room: the test that asks; inside one process await an event instead.
import { setTimeout as pause } from 'node:timers/promises';

export interface UntilOptions {
  /** Limit; default 10 s. */
  timeoutMs?: number;
  /** Pause between two looks; default 25 ms. */
  everyMs?: number;
  /** What is awaited, for the message; default: the source of the predicate. */
  what?: string;
}

/** Asks until the answer is truthy and returns it; a predicate that throws counts as "not yet". */
export async function until<T>(
  predicate: () => T | Promise<T>,
  { timeoutMs = 10_000, everyMs = 25, what = predicate.toString() }: UntilOptions = {},
): Promise<NonNullable<T>> {
  const giveUp = performance.now() + timeoutMs;
  let last: unknown;
  for (;;) {
    try {
      const answer = await within(predicate, giveUp - performance.now());
      if (answer) return answer;
      last = answer;
    } catch (error) {
      last = error;
    }
    if (performance.now() >= giveUp)
      throw new Error(`not true within ${timeoutMs} ms: ${what}; last seen: ${show(last)}`);
    await pause(everyMs);
  }
}

/** A predicate that hangs must not outlive the limit. */
async function within<T>(predicate: () => T | Promise<T>, leftMs: number): Promise<T> {
  const timer = new AbortController();
  try {
    return await Promise.race([
      predicate(),
      pause(Math.max(leftMs, 1), undefined, { signal: timer.signal }).then(() => {
        throw new Error('the predicate itself did not answer');
      }),
    ]);
  } finally {
    timer.abort();
  }
}

function show(value: unknown): string {
  if (value instanceof Error) return value.message;
  return value === undefined ? 'undefined' : (JSON.stringify(value) ?? String(value));
}
