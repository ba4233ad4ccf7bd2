// Why this room exists: what a client sends over time (does it hammer, does it repeat) is seen best from between.
// Invariant: a client that leaves is gone for the service too, and an answer the service did not give is not made up, but
// for the refusals that were asked for.
// Next room: conformance.ts; proxy.ts, where the network itself fails.
import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';

export type Part = 'all' | 'half';

export interface Call {
  path: string;
  /** 0: the connection was cut. */
  status: number;
  at_ms: number;
}

export interface Traffic {
  url: string;
  /** Calls that were answered, in that order. */
  calls: readonly Call[];
  /** Calls that have come in, answered or not. */
  came: number;
  /** Loses the next answer to a path with this end: all of it, or its second half. */
  lose(end: string, part: Part): void;
  /** Answers so many calls with 503 and `Retry-After: 1` instead of passing them on. */
  refuse(count: number): void;
  stop(): Promise<void>;
}

/** Passes calls on to a service on loopback and notes them. */
export async function watchTraffic(service: string): Promise<Traffic> {
  const calls: Call[] = [];
  let came = 0;
  let refusals = 0;
  const losses = new Map<string, Part>();
  const server = http.createServer((request, response) => {
    came++;
    const note = (status: number) =>
      calls.push({ path: request.url ?? '', status, at_ms: performance.now() });
    if (refusals > 0) {
      refusals--;
      request.resume();
      response.writeHead(503, { 'retry-after': '1' }).end();
      note(503);
      return;
    }
    const { method, headers } = request;
    const onward = http.request(service + request.url, { method: method ?? 'GET', headers });
    const cut = () => {
      onward.destroy();
      response.destroy();
    };
    response.on('close', () => {
      if (!response.writableFinished) cut();
    });
    onward.on('error', () => {
      if (!response.destroyed) note(0);
      cut();
    });
    onward.on('response', (answer) => {
      note(answer.statusCode ?? 0);
      const [end = '', part] = [...losses].find(([path]) => request.url?.endsWith(path)) ?? [];
      losses.delete(end);
      if (part !== 'all') response.writeHead(answer.statusCode ?? 502, answer.headers);
      if (part === 'half') {
        answer.once('data', (some: Buffer) => response.write(some.subarray(0, some.length / 2)));
      }
      if (part !== undefined) {
        // All of it is taken from the service, to which the answer has arrived.
        answer.resume().on('end', () => setImmediate(cut));
        return;
      }
      answer.on('error', cut).pipe(response);
    });
    request.on('error', cut).pipe(onward);
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    calls,
    get came() {
      return came;
    },
    lose(end, part) {
      losses.set(end, part);
    },
    refuse(count) {
      refusals = count;
    },
    async stop() {
      server.close();
      server.closeAllConnections();
    },
  };
}
