// Reads who a request comes from: Errand-Actor, and the id of the request.
// Invariant: a name that cannot be kept as it came is refused, not left out: the audit tells no less than it was told.
// Next room: domain/actor.ts; the routes of operators, which hand it on.
import type { FastifyRequest } from 'fastify';
import { anonymous, type By, isActor } from '../domain/actor.ts';
import { Problem } from '../domain/problem.ts';
import { headerOf } from './answer.ts';

/** Who sends this request; throws where the name is none. */
export function byOf(request: FastifyRequest): By {
  const actor = headerOf(request, 'errand-actor') ?? anonymous;
  if (!isActor(actor)) {
    throw new Problem('bad-header', {
      detail: 'errand-actor must be 1 to 128 printable ASCII characters; send a name, or none',
    });
  }
  return { actor, request_id: request.id };
}
