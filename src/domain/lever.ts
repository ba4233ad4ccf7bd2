// A pause or a drain of a queue, and what becomes of it when it is pulled again.
// Invariant: what its caller leaves out stays as it stands, so a lever that is pulled twice is pulled once.
// Next room: actions/queues.ts, which pulls; queue-record.ts, how it is shown.

/** Since when (null: from now on), until when, and why. */
export interface Lever {
  since: Date | string | null;
  end: Date | string | null;
  reason: string | null;
}

/** What a lever is once it is pulled; null: it is so already. Of `end` and `why` null takes away, absent is as it stands. */
export function leverOf(
  standing: Lever | null,
  wished: string | null | undefined,
  why: string | null | undefined,
): Lever | null {
  const { since, end, reason } = standing ?? { since: null, end: null, reason: null };
  const lever = {
    since,
    end: wished === undefined ? end : wished,
    reason: why === undefined ? reason : why,
  };
  const isSame = momentOf(lever.end) === momentOf(end) && lever.reason === reason;
  return standing !== null && isSame ? null : lever;
}

function momentOf(end: Date | string | null): number | null {
  return end === null ? null : new Date(end).getTime();
}
