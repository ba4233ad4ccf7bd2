// How a queue is written into an answer, and what the conditions of a change are held against.
// Invariant: every answer that holds a queue has the tag by which it can be changed.
// Next room: queues.ts and queue-levers.ts, which answer; schedule-answer.ts does the same for schedules.
import type { FastifyReply } from 'fastify';
import type { Figures } from '../actions/statistics.ts';
import { namesQueueVersion, type QueueFacts, queueEtag, queueRecord } from '../domain/queue-record.ts';
import { sendJson } from './answer.ts';
import type { Versioned } from './conditions.ts';
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

/** A queue as conditions see it. */
export function versionOf(facts: QueueFacts): Versioned {
  return {
    what: `queue "${facts.name}"`,
    etag: queueEtag(facts),
    isNamed: (header) => namesQueueVersion(header, facts),
  };
}
