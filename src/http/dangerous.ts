// Dangerous actions: proposed, shown with what they would meet, confirmed by typing it, or withdrawn.
// Invariant: none begins by one request.
// Next room: actions/dangerous.ts; operations.ts, which shows what was begun.
import type { Actions } from '../actions/actions.ts';
import { idOf, type Proposal } from '../actions/dangerous.ts';
import { isNothing, noneFits, waitingStates } from '../domain/operation.ts';
import { Problem } from '../domain/problem.ts';
import { byOf } from './actor.ts';
import { sendJson } from './answer.ts';
import { begun, sendBegun } from './operations.ts';
import { linkNext, nextLink } from './page.ts';
import { bodyFaults, type Route, refusals, storeFaults } from './route.ts';
import {
  Action,
  ActionIdParams,
  ActionList,
  ActionQuery,
  Confirmation,
  NewAction,
} from './schemas/operation.ts';

const content = { 'application/json': { schema: Action } };

/** `POST /v1/admin/actions`. */
export function proposeAction({ dangerous }: Actions): Route<{ Body: NewAction }> {
  return {
    config: { headers: ['Errand-Actor'] },
    schema: {
      operationId: 'proposeAction',
      summary: 'Propose something dangerous',
      description:
        'Nothing happens yet: the answer says how many jobs it would meet, and the phrase that confirms it within ten ' +
        'minutes.',
      tags: ['operations'],
      body: NewAction,
      response: {
        201: {
          description: 'It waits for its phrase.',
          headers: { Location: { type: 'string', description: 'The action.' } },
          content,
        },
        ...refusals(...bodyFaults, ...storeFaults, 'not-found'),
      },
    },
    async handler(request, reply) {
      const made = await dangerous.propose(proposalOf(request.body), byOf(request));
      return sendJson(reply.header('location', `/v1/admin/actions/${idOf(made.id)}`), 201, textOf(made));
    },
  };
}

/** `GET /v1/admin/actions`. */
export function listActions({ dangerous }: Actions): Route<{ Querystring: ActionQuery }> {
  return {
    schema: {
      operationId: 'listActions',
      summary: 'List dangerous actions',
      description: 'The newest first.',
      tags: ['operations'],
      querystring: ActionQuery,
      response: {
        200: {
          description: 'A page of actions.',
          headers: nextLink,
          content: { 'application/json': { schema: ActionList } },
        },
        ...refusals(...storeFaults, 'cursor-invalid', 'validation-failed'),
      },
    },
    async handler({ query }, reply) {
      const { items, next_cursor } = await dangerous.page(query.limit, query.cursor);
      linkNext(reply, '/v1/admin/actions', { ...query, cursor: next_cursor });
      return sendJson(reply, 200, JSON.stringify({ items: items.map(recordOf), next_cursor }));
    },
  };
}

/** `GET /v1/admin/actions/{id}`. */
export function readAction({ dangerous }: Actions): Route<{ Params: ActionIdParams }> {
  return {
    schema: {
      operationId: 'readAction',
      summary: 'Read a dangerous action',
      tags: ['operations'],
      params: ActionIdParams,
      response: { 200: { description: 'The action.', content }, ...refusals(...storeFaults, 'not-found') },
    },
    async handler({ params: { id } }, reply) {
      const action = await dangerous.find(bare(id));
      if (action === undefined) throw noAction(id);
      return sendJson(reply, 200, textOf(action));
    },
  };
}

/** `POST /v1/admin/actions/{id}/confirm`. */
export function confirmAction({ dangerous }: Actions): Route<{ Params: ActionIdParams; Body: Confirmation }> {
  return {
    config: { headers: ['Errand-Actor'] },
    schema: {
      operationId: 'confirmAction',
      summary: 'Confirm a dangerous action',
      description:
        'By its phrase. Where it would meet more than a tenth more or fewer jobs by now it is refused, with a new phrase. ' +
        'Confirmed again it is the same operation.',
      tags: ['operations'],
      params: ActionIdParams,
      body: Confirmation,
      response: {
        202: begun,
        ...refusals(
          ...bodyFaults,
          ...storeFaults,
          'not-found',
          'impact-changed',
          'action-expired',
          'confirmation-mismatch',
        ),
      },
    },
    async handler(request, reply) {
      const { id } = request.params;
      const operation = await dangerous.confirm(bare(id), request.body.phrase, byOf(request));
      if (operation === undefined) throw noAction(id);
      return sendBegun(reply, { operation, replayed: false });
    },
  };
}

/** `DELETE /v1/admin/actions/{id}`. */
export function withdrawAction({ dangerous }: Actions): Route<{ Params: ActionIdParams }> {
  return {
    config: { headers: ['Errand-Actor'] },
    schema: {
      operationId: 'withdrawAction',
      summary: 'Withdraw a dangerous action',
      tags: ['operations'],
      params: ActionIdParams,
      response: {
        204: { description: 'It cannot be confirmed any more.' },
        ...refusals(...storeFaults, 'not-found', 'operation-state-conflict'),
      },
    },
    async handler(request, reply) {
      const { id } = request.params;
      if (!(await dangerous.withdraw(bare(id), byOf(request)))) throw noAction(id);
      return reply.code(204).send();
    },
  };
}

/** What is kept of a proposal: only what means something for it. */
function proposalOf({ action, target, params, reason }: NewAction): Proposal {
  const { filter, limit, undo_seconds, states } = params;
  if (action === 'dead_letters.discard') {
    const queue = target === '*' ? {} : { queue: target };
    return { action, target, reason, params: { filter: { ...filter, ...queue }, limit, undo_seconds } };
  }
  return {
    action,
    target,
    reason,
    params: { filter, limit, undo_seconds, states: states ?? [...waitingStates] },
  };
}

type Facts = NonNullable<Awaited<ReturnType<Actions['dangerous']['find']>>>;

function recordOf(facts: Facts): object {
  const { id, action, target, params, reason, actor, impact, confirm_phrase, created_at, expires_at } = facts;
  const state = facts.state === 'pending' && facts.expired ? 'expired' : facts.state;
  return {
    ...{ id: idOf(id), action, target, params, reason, actor, state, impact, confirm_phrase },
    ...{ operation: facts.operation_id, created_at, expires_at },
    note: isNothing(impact) ? noneFits(action, target) : null,
  };
}

function textOf(facts: Facts): string {
  return JSON.stringify(recordOf(facts));
}

function bare(id: string): string {
  return id.slice('act_'.length);
}

function noAction(id: string): Problem {
  return new Problem('not-found', { detail: `there is no action ${id}; take URLs from Location` });
}
