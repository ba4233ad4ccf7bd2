// What has no route: unknown paths are 404, known ones with another method 405 with `Allow`, and OPTIONS says what a path
// can do. Decided before a body is read, so a wrong path is told as that, not as a fault of its body.
// Invariant: `Allow`, `Accept-Post` and `Accept-Patch` list what is registered; nobody keeps a second list.
// Next room: negotiate.ts.
import type { FastifyRequest } from 'fastify';
import fp from 'fastify-plugin';
import { Problem } from '../domain/problem.ts';

interface KnownPath {
  pattern: RegExp;
  /** Each method and the media types of its body. */
  methods: Map<string, string>;
}

/** Answers requests that no route takes. */
export const unrouted = fp(
  async (app) => {
    const paths = new Map<string, KnownPath>();

    app.addHook('onRoute', ({ url, method, routePath, schema }) => {
      const types = (schema?.consumes ?? ['application/json']).join(', ');
      know(url, [method].flat(), types);
      // The first route of a plugin answers with and without a slash, which Fastify tells once.
      if (routePath === '') know(`${url}/`, [method].flat(), types);
    });

    const know = (url: string, methods: readonly string[], types: string): void => {
      const path = paths.get(url) ?? { pattern: patternOf(url), methods: new Map() };
      paths.set(url, path);
      for (const one of methods) path.methods.set(one, types);
    };

    app.addHook('onRequest', (request, reply, done) => {
      if (!request.is404) return done();
      const methods = methodsAt(pathOf(request));
      if (methods.size === 0) return done(noSuchPath());
      const allow = [...methods.keys(), 'OPTIONS'].join(', ');
      if (request.method !== 'OPTIONS') return done(noSuchMethod(request.method, allow));
      for (const method of ['POST', 'PATCH']) {
        const types = methods.get(method);
        if (types !== undefined) reply.header(`accept-${method.toLowerCase()}`, types);
      }
      reply.code(204).header('allow', allow).send();
    });

    // `OPTIONS *` asks about the server as a whole (RFC 9110 section 9.3.7).
    const methodsAt = (path: string): Map<string, string> => {
      // A path that is registered as it stands wins over one with parameters, as it does in the router.
      const itself = paths.get(path);
      if (itself !== undefined) return itself.methods;
      const matching = [...paths.values()].filter(({ pattern }) => path === '*' || pattern.test(path));
      return new Map(matching.flatMap(({ methods }) => [...methods]));
    };

    // The hook above has answered already; without a handler of its own Fastify would run none of the hooks.
    app.setNotFoundHandler(() => {
      throw noSuchPath();
    });
  },
  { name: 'errand-unrouted' },
);

function patternOf(url: string): RegExp {
  const parts = url
    .replaceAll('.', '\\.')
    .replaceAll('*', '.+')
    .replaceAll(/:[a-z_]+/g, '[^/]+');
  return new RegExp(`^${parts}$`);
}

function pathOf(request: FastifyRequest): string {
  return request.url.split('?', 1)[0] as string;
}

function noSuchPath(): Problem {
  return new Problem('not-found', { detail: 'there is nothing at this path; see /openapi.json' });
}

function noSuchMethod(method: string, allow: string): Problem {
  return new Problem('method-not-allowed', {
    detail: `method ${method} is not possible here; use ${allow}`,
    headers: { allow },
  });
}
