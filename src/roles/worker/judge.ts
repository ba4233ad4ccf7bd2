// What a handler returned or threw, as a verdict. It is judged where the handler runs, in the process or in a thread, so that
// a large result is made into text there.
// Invariant: nothing that a handler does can throw here.
// Next room: call.ts and thread.ts, which ask.
import { failed, type Verdict } from '../../domain/outcome.ts';
import { JobError, jsonText } from './handlers.ts';

/** Does the work and says how it went; `limit` is that of a result in bytes, `wasLate` whether its time was over. */
export async function judge(
  work: () => unknown,
  limit: number,
  wasLate: () => boolean = () => false,
): Promise<Verdict> {
  try {
    const returned = await work();
    if (returned === undefined) return { kind: 'succeeded', result: null, created_uri: null };
    const result = jsonText(returned);
    // The next attempt would return the same.
    if (result === null) return failed('permanent', 'the result is not JSON');
    if (Buffer.byteLength(result) > limit) {
      return failed('permanent', `the result is larger than ${limit} bytes`);
    }
    return { kind: 'succeeded', result, created_uri: null };
  } catch (error) {
    if (error instanceof JobError)
      return { ...failed(error.class, messageOf(error)), retry_after_seconds: error.retry_after_seconds };
    return failed(wasLate() ? 'timeout' : 'retryable', messageOf(error));
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
