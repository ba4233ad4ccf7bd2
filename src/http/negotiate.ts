// Reads Expect, Errand-Expect and Prefer before the body is read, so that a demand that cannot be met costs nobody an
// upload. Only routes marked `negotiates` resolve a mode; elsewhere an expectation is refused.
// Invariants: a refusal stores nothing, and closes the connection, because the client may still be sending
// (docs/contract.md, Expect on the wire); every answer to a submit says how the request was understood.
// Next room: body.ts reads the body; submit.ts acts on the mode.
import type { FastifyReply, FastifyRequest } from 'fastify';
import fp from 'fastify-plugin';
import {
  type AnswerMode,
  type NegotiationHeaders,
  negotiate,
  negotiateAccepted,
  type RefusedMode,
  refusalWhereOnly,
  refusedMode,
  type WaitLimits,
} from '../domain/expectation.ts';
import type { Problem } from '../domain/problem.ts';

declare module 'fastify' {
  interface FastifyContextConfig {
    /** Which expectations the route honours: all, or only that of a 202; the mode is in `request.answerMode`. */
    negotiates?: 'all' | 'accepted';
  }
  interface FastifyRequest {
    answerMode: AnswerMode;
  }
}

type Done = (error?: Error) => void;

/** Resolves or refuses the expectation of every request. */
export const negotiation = fp<WaitLimits>(
  async (app, limits) => {
    app.decorateRequest('answerMode');

    const resolving = (resolve: (demands: NegotiationHeaders) => AnswerMode | RefusedMode) => {
      return (request: FastifyRequest, reply: FastifyReply, done: Done) => {
        const mode = resolve(demandsOf(request));
        if (mode.kind === 'refused') return done(refuse(reply, mode.problem));
        reply.header('errand-mode', mode.errandMode);
        request.answerMode = mode;
        done();
      };
    };
    const hooks = {
      all: resolving((demands) => negotiate(demands, limits)),
      accepted: resolving(negotiateAccepted),
    };

    app.addHook('onRoute', (route) => {
      const { negotiates } = route.config ?? {};
      const hook = negotiates === undefined ? refuseAll : hooks[negotiates];
      route.onRequest = [hook, ...[route.onRequest ?? []].flat()];
    });
    // Before unrouted.ts: a refused upload to a wrong path must close its connection too.
    app.addHook('onRequest', (request, reply, done) => {
      if (request.is404) refuseAll(request, reply, done);
      else done();
    });
  },
  { name: 'errand-negotiation', dependencies: ['errand-context'] },
);

/** How long the caller of a path without expectations wishes to wait, and what to tell of it (RFC 7240). */
export function wishedWait(
  request: FastifyRequest,
  limits: WaitLimits,
): { ms: number; applied: string | null } {
  const mode = negotiate({ prefer: demandsOf(request).prefer }, limits);
  return mode.kind === 'soft'
    ? { ms: mode.wait_seconds * 1_000, applied: `wait=${mode.wait_seconds}` }
    : { ms: 0, applied: null };
}

function refuseAll(request: FastifyRequest, reply: FastifyReply, done: Done): void {
  const { expect, errandExpect } = demandsOf(request);
  const problem = refusalWhereOnly([], expect, errandExpect);
  done(problem === null ? undefined : refuse(reply, problem));
}

function refuse(reply: FastifyReply, problem: Problem): Problem {
  reply.header('errand-mode', refusedMode);
  reply.header('connection', 'close');
  return problem;
}

function demandsOf({ headers }: FastifyRequest) {
  return {
    expect: headers.expect,
    // Several lines of a header of our own reach us joined: node makes arrays of Set-Cookie only.
    errandExpect: headers['errand-expect'] as string | undefined,
    prefer: headers.prefer as string | undefined,
  };
}
