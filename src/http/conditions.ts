// The conditions of a request: whether its If-Match and If-None-Match hold of what is there (RFC 9110 section 13.1).
// Invariant: a queue or schedule that exists is changed only by who names its version, so nobody undoes what they have not
// seen; what is in force already is no change, whatever the conditions of one.
// Next room: queues.ts, schedules.ts and control.ts, which change; status.ts and jobs.ts, which read.
import type { FastifyRequest } from 'fastify';
import { Problem } from '../domain/problem.ts';

/** What the conditions of a change are held against. */
export interface Versioned {
  /** In the words of a refusal, such as `queue "mails"`. */
  what: string;
  etag: string;
  /** Whether `If-Match` names what callers have made of it. */
  isNamed(header: string): boolean;
}

/** Throws 428 or 412 unless `If-Match` names the version that is there. */
export function refuseStale(request: FastifyRequest, present: Versioned): void {
  const { what, etag, isNamed } = present;
  const expected = request.headers['if-match'];
  if (expected === undefined) {
    throw new Problem('precondition-required', {
      detail: `${what} exists; send its ETag as if-match to change it`,
      headers: { etag },
    });
  }
  if (!isNamed(expected)) throw stale(present, mismatch(expected, what));
}

/** The same for what makes or replaces: `present` null, nothing of the name is there; `isSame`, nothing would change. */
export function refuseReplacing(
  request: FastifyRequest,
  what: string,
  present: Versioned | null,
  isSame: boolean,
): void {
  if (present === null) {
    if (request.headers['if-match'] === undefined) return;
    throw new Problem('precondition-failed', {
      detail: `there is no ${what}; leave if-match out to make it`,
    });
  }
  const unless = request.headers['if-none-match'];
  if (unless !== undefined && (unless.trim() === '*' || namesTag(unless, present.etag))) {
    throw stale(present, `${what} exists; leave if-none-match out to change it`);
  }
  if (!isSame) refuseStale(request, present);
}

function stale({ etag }: Versioned, detail: string): Problem {
  return new Problem('precondition-failed', { detail, headers: { etag } });
}

/** Tells whether one of the tags in `If-None-Match` names this one, weak or strong (RFC 9110 section 13.1.2). */
export function namesTag(header: string, etag: string): boolean {
  return matchesTag(header.replaceAll('W/"', '"'), etag);
}

/** Tells whether one of the tags in `If-Match` is this one: a weak tag never is (RFC 9110 section 13.1.1). */
export function matchesTag(header: string, etag: string): boolean {
  return header.trim() === '*' || header.split(',').some((tag) => tag.trim() === etag);
}

/** Why `If-Match` does not fit. Shells eat the quotes of a tag easily. */
export function mismatch(header: string, what: string): string {
  return header.includes('"')
    ? `${what} is not as if-match says; read it again`
    : 'if-match holds no tag, because a tag has quotes; send the ETag as it came, such as "1.2.3"';
}
