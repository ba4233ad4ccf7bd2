// How a queue is written into an answer, and what is said of one that is not as a request expects.
// Invariants: every answer that holds a queue has the tag by which it can be changed; a queue that exists is changed only by
// who names its version.
// Next room: queues.ts and queue-levers.ts, which answer; schedule-answer.ts does the same for schedules.
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Figures } from '../actions/statistics.ts';
import { Problem } from '../domain/problem.ts';
import { namesQueueVersion, type QueueFacts, queueEtag, queueRecord } from '../domain/queue-record.ts';
import { headerOf, mismatch, namesTag, sendJson } from './answer.ts';
import { Queue } from './schemas/queue.ts';

/** The tag, as the document tells of it. */
export const etag = {
  ETag: {
    type: 'string',
    description:
      'The present settings and levers; as If-Match it stays good until somebody changes them. Jobs do not change it.',
  },
} as const;

/** What `sendQueue` sends, as the document tells of it. */
export const answered = { headers: etag, content: { 'application/json': { schema: Queue } } } as const;

/** Sends the record of a queue; `changed`: what a lever has to say; `stats` where the queue is read. */
export function sendQueue(
  reply: FastifyReply,
  status: number,
  facts: QueueFacts,
  told: { changed?: boolean; stats?: Figures } = {},
): FastifyReply {
  reply.header('etag', queueEtag(facts));
  return sendJson(reply, status, JSON.stringify({ ...queueRecord(facts), ...told }));
}

/** Throws 428 or 412 unless `If-Match` names the version of a queue that exists. */
export function refuseStale(request: FastifyRequest, present: QueueFacts): void {
  const expected = headerOf(request, 'if-match');
  if (expected === undefined) {
    throw new Problem('precondition-required', {
      detail: `queue "${present.name}" exists; send its ETag as if-match to change it`,
      headers: { etag: queueEtag(present) },
    });
  }
  if (!namesQueueVersion(expected, present)) {
    throw stale(present, mismatch(expected, `queue "${present.name}"`));
  }
}

/** What is in force already is no change, whatever the conditions of one (RFC 9110 section 13.1.1). */
export function refuseReplacing(request: FastifyRequest, present: QueueFacts, isSame: boolean): void {
  const { name, exists } = present;
  const unless = headerOf(request, 'if-none-match');
  if (!exists) {
    if (headerOf(request, 'if-match') === undefined) return;
    throw new Problem('precondition-failed', {
      detail: `there is no queue "${name}"; leave if-match out to make it`,
    });
  }
  if (unless !== undefined && (unless.trim() === '*' || namesTag(unless, queueEtag(present)))) {
    throw stale(present, `queue "${name}" exists; leave if-none-match out to change it`);
  }
  if (!isSame) refuseStale(request, present);
}

function stale(present: QueueFacts, detail: string): Problem {
  return new Problem('precondition-failed', { detail, headers: { etag: queueEtag(present) } });
}
