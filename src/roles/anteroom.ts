// Listens while the start waits for its database, so that probes learn why: the process lives, and has not started. Where
// nobody answered they could not tell waiting from a crash.
// Invariant: it is gone before the API listens in its place.
// Next room: api.ts.
import { once } from 'node:events';
import { createServer } from 'node:http';
import { Problem, toBody } from '../domain/problem.ts';
import { addressTaken } from './api.ts';

export interface Anteroom {
  close(): Promise<void>;
}

/** Answers until closed; `reason` says what the start waits for. */
export async function anteroom(host: string, port: number, reason: () => string): Promise<Anteroom> {
  const server = createServer({ requestTimeout: 10_000 }, (request, answer) => {
    const path = request.url?.split('?')[0] ?? '';
    const lives = path === '/health/live';
    const health = lives ? { status: 'pass' } : { status: 'fail', output: `starting: ${reason()}` };
    const problem = new Problem('database-unavailable', { detail: 'this server is starting; try again' });
    const isProbe = /^\/health(\/|$)/.test(path);
    answer.writeHead(lives ? 200 : 503, {
      'content-type': isProbe ? 'application/health+json' : 'application/problem+json',
      'cache-control': 'no-store',
      'x-content-type-options': 'nosniff',
      connection: 'close',
      ...(isProbe ? {} : problem.headers),
    });
    answer.end(JSON.stringify(isProbe ? health : toBody(problem, 'starting')));
  });
  server.maxConnections = 1_000;
  server.listen(port, host);
  await once(server, 'listening').catch((error) => {
    throw addressTaken(error, host, port);
  });
  return {
    async close() {
      const closed = once(server, 'close');
      server.close();
      server.closeAllConnections();
      await closed;
    },
  };
}
