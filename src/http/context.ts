// What every request and answer has: an id, the headers that make an answer safe to pass on, and a place in the metrics.
// Invariants: the id of a request is on its answer, whatever becomes of it; metrics know templates, never raw paths; a
// server that closes says so on every answer.
// Next room: unrouted.ts.
import { randomUUID } from 'node:crypto';
import type { IncomingMessage } from 'node:http';
import type { FastifyReply, FastifyRequest } from 'fastify';
import fp from 'fastify-plugin';
import type { EstimateJob } from '../actions/estimate.ts';
import { Problem } from '../domain/problem.ts';

/** What the API tells the metrics and serves of them; telemetry/metrics.ts is the real one. */
export interface Metrics {
  contentType: string;
  text(): Promise<string>;
  observeHttp(route: string, method: string, status: number, seconds: number): void;
}

declare module 'fastify' {
  interface FastifyInstance {
    /** The time by which jobs are due. */
    now(): Date;
    /** When to ask for a job again. */
    estimate: EstimateJob;
  }
  interface FastifyRequest {
    /** The template of the route, once a hook of the route has run. */
    template: string | undefined;
  }
}

export interface ContextOptions {
  metrics: Metrics;
  now: () => Date;
  estimate: EstimateJob;
  /** Whether the process has begun to stop. */
  isDraining: () => boolean;
  /** Called once, when the server begins to close. */
  onClosing: () => void;
}

const idPattern = /^[\w.-]{1,64}$/;

/** The id of a request: the caller's `X-Request-Id` where it is one, else a new one. */
export function requestIdOf(request: Pick<IncomingMessage, 'headers'>): string {
  const given = request.headers['x-request-id'];
  return typeof given === 'string' && idPattern.test(given) ? given : randomUUID();
}

/** Sets the headers every answer has (docs/contract.md, Conventions). */
export function setDefaultHeaders(request: FastifyRequest, reply: FastifyReply): void {
  reply.header('x-request-id', request.id);
  reply.header('cache-control', 'no-store');
  reply.header('x-content-type-options', 'nosniff');
}

/** Gives every request its context; must be registered first. */
export const context = fp<ContextOptions>(
  async (app, { metrics, now, estimate, isDraining, onClosing }) => {
    app.decorate('now', now);
    app.decorate('estimate', estimate);
    let closing = false;

    // By the answer itself: Fastify's own hook for it adds two listeners, and takes them away, for each request.
    app.addHook('onRequest', (request, reply, done) => {
      const began = performance.now();
      reply.raw.on('finish', () => {
        const route = request.template ?? request.routeOptions.url ?? 'unrouted';
        metrics.observeHttp(route, request.method, reply.statusCode, (performance.now() - began) / 1_000);
      });
      setDefaultHeaders(request, reply);
      done(closing ? stopping() : undefined);
    });

    // A connection kept alive past the close would hold the process until its idle limit, and a request sent by it as it is
    // closed would fail.
    app.addHook('onSend', (_request, reply, payload, done) => {
      if (closing || isDraining()) reply.header('connection', 'close');
      done(null, payload);
    });

    // Bound per route: asking the request for its route builds an object each time.
    app.decorateRequest('template');
    app.addHook('onRoute', (route) => {
      const remember = (request: FastifyRequest, _reply: FastifyReply, done: () => void) => {
        request.template = route.url;
        done();
      };
      route.onRequest = [remember, ...[route.onRequest ?? []].flat()];
    });

    app.addHook('preClose', async () => {
      closing = true;
      onClosing();
    });
  },
  { name: 'errand-context' },
);

function stopping(): Problem {
  return new Problem('draining', { detail: 'this server is stopping; repeat the request' });
}
