// What a handler returned or threw, as a verdict. It is judged where the handler runs, in the process or in a thread, so that
// a large result is made into text there.
// Invariant: nothing that a handler does can throw here.
// Next room: call.ts and thread.ts, which ask.
import { placeOfError } from '../../domain/fingerprint.ts';
import { failed, type Verdict } from '../../domain/outcome.ts';
import { JobError, jsonText, Snooze } from './handlers.ts';

/**
 * Does the work and says how it went; `limit` is that of a result in bytes, `wasLate` whether its time was over. Work that
 * needs no waiting is judged at once: most of a fast handler's cost would be promises it never needed.
 */
export function judge(
  work: () => unknown,
  limit: number,
  wasLate: () => boolean = () => false,
): Verdict | Promise<Verdict> {
  try {
    const returned = work();
    if (!isThenable(returned)) return returnedVerdict(returned, limit);
    return Promise.resolve(returned)
      .then((value) => returnedVerdict(value, limit))
      .catch((error) => thrownVerdict(error, wasLate()));
  } catch (error) {
    return thrownVerdict(error, wasLate());
  }
}

export function isThenable(value: unknown): value is PromiseLike<unknown> {
  return typeof (value as PromiseLike<unknown> | null | undefined)?.then === 'function';
}

const nothing: Verdict = Object.freeze({ kind: 'succeeded', result: null, created_uri: null });

function returnedVerdict(returned: unknown, limit: number): Verdict {
  if (returned === undefined) return nothing;
  const result = jsonText(returned);
  // The next attempt would return the same.
  if (result === null) return failed('permanent', 'the result is not JSON');
  if (Buffer.byteLength(result) > limit) {
    return failed('permanent', `the result is larger than ${limit} bytes`);
  }
  return { kind: 'succeeded', result, created_uri: null };
}

function thrownVerdict(error: unknown, wasLate: boolean): Verdict {
  if (error instanceof Snooze) return { kind: 'snoozed', delay_ms: error.delay_ms, http_status: null };
  // Its own place is no matter of a handler that ran out of time.
  if (wasLate && !(error instanceof JobError)) return failed('timeout', messageOf(error));
  const verdict = { ...failed('retryable', messageOf(error)), place: placeOf(error) };
  if (!(error instanceof JobError)) return verdict;
  return { ...verdict, class: error.class, retry_after_seconds: error.retry_after_seconds };
}

/** Where an error was made, if it says so: a stack may be anything, too. */
function placeOf(error: unknown): string | null {
  try {
    return error instanceof Error ? placeOfError(String(error.stack)) : null;
  } catch {
    return null;
  }
}

/** Whatever was thrown, in words: an error may carry anything as its message. */
export function messageOf(error: unknown): string {
  try {
    return String(error instanceof Error ? error.message : error);
  } catch {
    return 'the handler threw something that cannot be shown';
  }
}
