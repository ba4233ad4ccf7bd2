// Shows operations and steers them: cancel, undo, resume.
// Invariant: each of these may be repeated; what cannot be done any more says why.
// Next room: actions/operations.ts; bulk.ts and dangerous.ts, which begin them.
import type { FastifyReply, FastifyRequest } from 'fastify';
import type { Actions } from '../actions/actions.ts';
import { fingerprint, parseIdempotencyKey, type RequestKey, requestKey } from '../domain/idempotency.ts';
import { type OperationFacts, operationRecord } from '../domain/operation.ts';
import { Problem } from '../domain/problem.ts';
import { byOf } from './actor.ts';
import { headerOf, sendJson } from './answer.ts';
import { bytesOf } from './body.ts';
import { linkNext, nextLink } from './page.ts';
import { bodyFaults, type Route, refusals, storeFaults } from './route.ts';
import { NoMembers } from './schemas/job.ts';
import {
  ItemQuery,
  Operation,
  OperationItemList,
  OperationList,
  OperationParams,
  OperationQuery,
} from './schemas/operation.ts';

const content = { 'application/json': { schema: Operation } };

/** `GET /v1/operations`. */
export function listOperations({ operations }: Actions): Route<{ Querystring: OperationQuery }> {
  return {
    schema: {
      operationId: 'listOperations',
      summary: 'List operations',
      description: 'The newest first. Follow `next_cursor` until it is null: a page may be short.',
      tags: ['operations'],
      querystring: OperationQuery,
      response: {
        200: {
          description: 'A page of operations.',
          headers: nextLink,
          content: { 'application/json': { schema: OperationList } },
        },
        ...refusals(...storeFaults, 'cursor-invalid', 'validation-failed'),
      },
    },
    async handler({ query }, reply) {
      const { limit, cursor, ...filter } = query;
      const { items, next_cursor } = await operations.page(filter, limit, cursor);
      linkNext(reply, '/v1/operations', { ...query, cursor: next_cursor });
      return sendJson(reply, 200, JSON.stringify({ items: items.map(operationRecord), next_cursor }));
    },
  };
}

/** `GET /v1/operations/{id}`. */
export function readOperation({ operations }: Actions): Route<{ Params: OperationParams }> {
  return {
    schema: {
      operationId: 'readOperation',
      summary: 'Read an operation',
      tags: ['operations'],
      params: OperationParams,
      response: {
        200: { description: 'The operation.', content },
        ...refusals(...storeFaults, 'not-found'),
      },
    },
    handler: async ({ params: { id } }, reply) => sendOperation(reply, 200, await operations.find(id), id),
  };
}

/** `GET /v1/operations/{id}/items`. */
export function listItems({
  operations,
}: Actions): Route<{ Params: OperationParams; Querystring: ItemQuery }> {
  return {
    schema: {
      operationId: 'listOperationItems',
      summary: 'Read what became of each dead letter',
      description:
        'Of a redrive or a discard, by job. Jobs that were moved or cancelled say it themselves and are not listed.',
      tags: ['operations'],
      params: OperationParams,
      querystring: ItemQuery,
      response: {
        200: {
          description: 'A page of items.',
          headers: nextLink,
          content: { 'application/json': { schema: OperationItemList } },
        },
        ...refusals(...storeFaults, 'not-found', 'cursor-invalid', 'validation-failed'),
      },
    },
    async handler({ params: { id }, query }, reply) {
      const page = await operations.items(id, query.outcome, query.limit, query.cursor);
      if (page === undefined) throw noOperation(id);
      linkNext(reply, `/v1/operations/${id}/items`, { ...query, cursor: page.next_cursor });
      return sendJson(reply, 200, JSON.stringify(page));
    },
  };
}

/** `POST /v1/operations/{id}/cancel`. */
export const cancelOperation = steering('cancel', {
  operationId: 'cancelOperation',
  summary: 'Stop an operation',
  description:
    'It takes no further step. What was redriven or moved stays so; what is only set aside is put back, also in the ' +
    'midst of a sweep.',
});

/** `POST /v1/operations/{id}/undo`. */
export const undoOperation = steering('undo', {
  operationId: 'undoOperation',
  summary: 'Put back what an operation set aside',
  description: 'All of it, until `undo_until`; afterwards it is refused.',
});

/** `POST /v1/operations/{id}/resume`. */
export const resumeOperation = steering('resume', {
  operationId: 'resumeOperation',
  summary: 'Let an operation go on',
  description: 'After its canary, or after it failed.',
});

function steering(
  verb: 'cancel' | 'undo' | 'resume',
  said: { operationId: string; summary: string; description: string },
): (actions: Actions) => Route<{ Params: OperationParams }> {
  return ({ operations }) => ({
    config: { headers: ['Errand-Actor'] },
    schema: {
      ...said,
      tags: ['operations'],
      params: OperationParams,
      body: NoMembers,
      response: {
        200: { description: 'As it is now.', content },
        ...refusals(...bodyFaults, ...storeFaults, 'not-found', 'operation-state-conflict'),
      },
    },
    async handler(request, reply) {
      const { id } = request.params;
      return sendOperation(reply, 200, await operations[verb](id, byOf(request)), id);
    },
  });
}

/** What a route says that begins an operation. */
export const begun = {
  description: 'It has begun; follow it at Location.',
  headers: {
    Location: { type: 'string', description: 'The operation.' },
    'Idempotency-Replayed': { type: 'string', description: '`true` where the key had begun it before.' },
  },
  content,
} as const;

/** Sends an operation that was begun. */
export function sendBegun(
  reply: FastifyReply,
  { operation, replayed }: { operation: OperationFacts; replayed: boolean },
): FastifyReply {
  if (replayed) reply.header('idempotency-replayed', 'true');
  return sendOperation(reply.header('location', `/v1/operations/${operation.id}`), 202, operation, '');
}

/** The key of a request that begins an operation. */
export function keyOf(request: FastifyRequest, route: string): RequestKey | null {
  const key = parseIdempotencyKey(headerOf(request, 'idempotency-key'));
  if (key === null) return null;
  const mediaType = request.headers['content-type'] ?? '';
  return requestKey(key, fingerprint(route, mediaType, bytesOf(request)));
}

function sendOperation(
  reply: FastifyReply,
  status: number,
  facts: OperationFacts | undefined,
  id: string,
): FastifyReply {
  if (facts === undefined) throw noOperation(id);
  return sendJson(reply, status, JSON.stringify(operationRecord(facts)));
}

function noOperation(id: string): Problem {
  return new Problem('not-found', { detail: `there is no operation ${id}; take URLs from Location` });
}
