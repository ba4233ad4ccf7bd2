// Shows the OpenAPI document in a browser at /docs: read it, and try a call out.
// Invariants: the page loads nothing from elsewhere and runs no script but its own files; it is no part of the document.
// Next room: document.ts, which makes what is shown.
import swaggerUi from '@fastify/swagger-ui';
import type { FastifyInstance } from 'fastify';
import { Problem } from '../domain/problem.ts';
import { lasting } from './docs.ts';

const policy = [
  "default-src 'none'",
  "script-src 'self'",
  "style-src 'self'",
  "img-src 'self' data:",
  "connect-src 'self'",
  "base-uri 'none'",
  "form-action 'none'",
  "frame-ancestors 'none'",
].join('; ');

// Parts and conditions would bring answers that this API does not have.
const unread = ['range', 'if-match', 'if-unmodified-since'];

/** `/docs` and what the page is made of; a plugin, so that its hooks stay its own. */
export async function browsing(app: FastifyInstance): Promise<void> {
  app.addHook('onRequest', (request, _reply, done) => {
    for (const name of unread) delete request.headers[name];
    done();
  });
  app.addHook('onSend', (_request, reply, payload, done) => {
    reply.removeHeader('accept-ranges');
    if (reply.statusCode < 400) lasting(reply);
    done(null, payload);
  });
  app.setErrorHandler((error: unknown) => {
    throw isRefusal(error) ? new Problem('not-found', { detail: 'there is no such file; see /docs' }) : error;
  });
  await app.register(swaggerUi, {
    routePrefix: '/docs',
    staticCSP: policy,
    theme: { title: 'Errand' },
    // Without the bar that asks for the address of a document.
    uiConfig: { layout: 'BaseLayout', deepLinking: true, displayOperationId: true },
  });
}

// The server of files says with a status of its own what it does not serve, such as a path that leads out of its folder.
function isRefusal(error: unknown): boolean {
  const status = error instanceof Error && 'statusCode' in error ? Number(error.statusCode) : 0;
  return !(error instanceof Problem) && status >= 400 && status < 500;
}
