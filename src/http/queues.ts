// Sets, changes, reads and deletes queues.
// Invariants: a queue that exists is changed or deleted only by who names its version; settings are taken as a whole or
// refused as a whole.
// Next room: actions/queues.ts; queue-levers.ts for pause, resume and drain.
import type { Actions } from '../actions/actions.ts';
import { noQueue } from '../actions/queues.ts';
import { mergePatch } from '../domain/merge-patch.ts';
import { queueEtag, queueRecord } from '../domain/queue-record.ts';
import { QueueSettings, settingsFrom } from '../domain/queue-settings.ts';
import { byOf } from './actor.ts';
import { headerOf, sendJson } from './answer.ts';
import { namesTag, refuseReplacing, refuseStale } from './conditions.ts';
import { linkNext, nextLink } from './page.ts';
import { mergePatchType } from './problem.ts';
import { answered, etag, sendQueue, versionOf } from './queue-answer.ts';
import { bodyFaults, type Route, refusals, storeFaults } from './route.ts';
import { QueueList, QueueParams, QueuePatch, QueueQuery } from './schemas/queue.ts';
import { checked } from './validate.ts';

const conditions = ['precondition-failed', 'precondition-required'] as const;

/** `GET /v1/queues`. */
export function listQueues({ queues }: Actions): Route<{ Querystring: QueueQuery }> {
  return {
    schema: {
      operationId: 'listQueues',
      summary: 'List queues',
      description:
        'By name: those of which something was set, and those that were ever named. Follow `next_cursor` until it is ' +
        'null: a page may be short.',
      tags: ['queues'],
      querystring: QueueQuery,
      response: {
        200: {
          description: 'A page of queues.',
          headers: nextLink,
          content: { 'application/json': { schema: QueueList } },
        },
        ...refusals(...storeFaults, 'cursor-invalid', 'validation-failed'),
      },
    },
    async handler({ query }, reply) {
      const { items, next_cursor } = await queues.page(query.limit, query.cursor);
      linkNext(reply, '/v1/queues', { ...query, cursor: next_cursor });
      return sendJson(reply, 200, JSON.stringify({ items: items.map(queueRecord), next_cursor }));
    },
  };
}

/** `GET /v1/queues/{queue}`. */
export function readQueue({ queues, statistics }: Actions): Route<{ Params: QueueParams }> {
  return {
    config: { headers: ['If-None-Match'] },
    schema: {
      operationId: 'readQueue',
      summary: 'Read a queue',
      tags: ['queues'],
      params: QueueParams,
      response: {
        200: { description: 'The queue.', ...answered },
        304: { description: 'Settings and levers are as they were; numbers may not be.', headers: etag },
        ...refusals(...storeFaults, 'not-found'),
      },
    },
    async handler(request, reply) {
      const { queue } = request.params;
      const facts = await queues.find(queue);
      if (facts === undefined) throw noQueue(queue);
      const known = headerOf(request, 'if-none-match');
      if (known !== undefined && namesTag(known, queueEtag(facts))) {
        return reply.code(304).header('etag', queueEtag(facts)).send();
      }
      return sendQueue(reply, 200, facts, { stats: await statistics.of(queue) });
    },
  };
}

/** `PUT /v1/queues/{queue}`. */
export function putQueue({ queues }: Actions): Route<{ Params: QueueParams; Body: QueueSettings }> {
  return {
    config: { headers: ['If-Match', 'If-None-Match', 'Errand-Actor'] },
    schema: {
      operationId: 'putQueue',
      summary: 'Make a queue or replace its settings',
      description:
        'What is left out has its default. Settings that are in force already change nothing and need no If-Match. Pause ' +
        'and drain stay as they are.',
      tags: ['queues'],
      params: QueueParams,
      body: QueueSettings,
      response: {
        200: { description: 'They are in force, or were already.', ...answered },
        201: {
          description: 'The queue was made.',
          content: answered.content,
          headers: { ...etag, Location: { type: 'string', description: 'The queue.' } },
        },
        ...refusals(...bodyFaults, ...storeFaults, 'not-found', ...conditions),
      },
    },
    async handler(request, reply) {
      const name = request.params.queue;
      const { isNew, queue } = await queues.put(
        name,
        request.body,
        (present, isSame) => {
          const version = versionOf(present);
          refuseReplacing(request, version.what, present.exists ? version : null, isSame);
        },
        byOf(request),
      );
      if (isNew) reply.header('location', `/v1/queues/${name}`);
      return sendQueue(reply, isNew ? 201 : 200, queue);
    },
  };
}

/** `PATCH /v1/queues/{queue}` (RFC 7396). */
export function patchQueue({ queues }: Actions): Route<{ Params: QueueParams; Body: QueuePatch }> {
  return {
    config: { headers: ['If-Match', 'Errand-Actor'] },
    schema: {
      operationId: 'patchQueue',
      summary: 'Change settings of a queue',
      description:
        'A merge patch: what is absent stays, null is the default. The whole is checked as by PUT.',
      tags: ['queues'],
      params: QueueParams,
      consumes: [mergePatchType, 'application/json'],
      body: QueuePatch,
      response: {
        200: { description: 'Changed.', ...answered },
        ...refusals(...bodyFaults, ...storeFaults, 'not-found', ...conditions),
      },
    },
    // What is merged is what was sent: defaults are for the whole.
    check: (body) => {
      checked(QueuePatch, body ?? {});
      return body ?? {};
    },
    async handler(request, reply) {
      const { queue } = await queues.patch(
        request.params.queue,
        (present) => {
          refuseStale(request, versionOf(present));
          return checked(QueueSettings, mergePatch(settingsFrom(present.settings), request.body));
        },
        byOf(request),
      );
      return sendQueue(reply, 200, queue);
    },
  };
}

/** `DELETE /v1/queues/{queue}`. */
export function deleteQueue({ queues }: Actions): Route<{ Params: QueueParams }> {
  return {
    config: { headers: ['If-Match', 'Errand-Actor'] },
    schema: {
      operationId: 'deleteQueue',
      summary: 'Delete a queue in which no job is open',
      description:
        'Settings, pauses and drain are forgotten; jobs that have ended stay. A job that is submitted to it makes it anew.',
      tags: ['queues'],
      params: QueueParams,
      response: {
        204: { description: 'Deleted.' },
        ...refusals(...storeFaults, 'not-found', 'queue-not-empty', ...conditions),
      },
    },
    async handler(request, reply) {
      await queues.remove(
        request.params.queue,
        (present) => refuseStale(request, versionOf(present)),
        byOf(request),
      );
      return reply.code(204).send();
    },
  };
}
