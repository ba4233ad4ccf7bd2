// Listens, and stops listening without a failed request: waiters are released first, requests that are being answered get
// their answer, and sockets that say nothing hold nothing up.
// Invariant: stop() ends at its deadline at the latest.
// Next room: http/app.ts.
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Bag } from '../domain/bag.ts';
import type { App } from '../http/app.ts';
import type { Service } from './service.ts';

export interface Api extends Service {
  /** Where it listens, once started. */
  url(): string;
  /** Resolves when nobody new has come in for a second, at the latest at `until` (monotonic ms). */
  quiet(until: number): Promise<void>;
}

/** For so long nobody new may have come in before balancers are taken to have noticed, in ms. */
const quiet_ms = 1_000;

/** How long a request may go on arriving once everything that had arrived is answered, in ms. */
const late_ms = 1_000;

/** Connections that may wait to be accepted: node's 511 are too few for a crowd that comes back at once after a failover. */
const backlog = 4_096;

export function api(app: App, host: string, port: number): Api {
  let url = '';
  let lastGuest = Number.NEGATIVE_INFINITY;
  app.server.on('connection', () => {
    lastGuest = performance.now();
  });
  const open = new Bag<ServerResponse>();
  let onAnswered = () => {};
  function answered(this: ServerResponse): void {
    open.delete(this);
    onAnswered();
  }
  function began(_request: IncomingMessage, answer: ServerResponse): void {
    open.add(answer);
    // It comes once, and one function for all requests is cheaper than one for each.
    answer.on('close', answered);
  }
  // A request with an expectation is not told as `request`.
  for (const event of ['request', 'checkContinue', 'checkExpectation']) app.server.on(event, began);
  /** Whether a request that has arrived as a whole still waits for its answer. */
  const isBusy = () => open.some(({ req }) => req.complete);

  return {
    name: 'api',
    async start() {
      await app.listen({ host, port, backlog }).catch((error) => {
        throw addressTaken(error, host, port);
      });
      const address = app.server.address() as AddressInfo;
      const shown = address.family === 'IPv6' ? `[${address.address}]` : address.address;
      url = `http://${shown}:${address.port}`;
    },
    async stop(deadline) {
      const cut = () => app.server.closeAllConnections();
      const last = setTimeout(cut, Math.max(0, deadline - performance.now() - 500));
      let late: NodeJS.Timeout | undefined;
      // A silent socket or a half-sent request would keep close() waiting for ever.
      onAnswered = () => {
        clearTimeout(late);
        if (!isBusy()) late = setTimeout(() => (isBusy() ? onAnswered() : cut()), late_ms);
      };
      onAnswered();
      try {
        await app.close();
      } finally {
        onAnswered = () => {};
        clearTimeout(last);
        clearTimeout(late);
      }
    },
    url: () => url,
    async quiet(until) {
      for (;;) {
        const left = Math.min(lastGuest + quiet_ms, until) - performance.now();
        if (left <= 0) return;
        await new Promise((resolve) => setTimeout(resolve, left));
      }
    },
  };
}

/** The error of a listen, in words where another program has the port. */
export function addressTaken(error: NodeJS.ErrnoException, host: string, port: number): Error {
  if (error.code !== 'EADDRINUSE') return error;
  return new Error(`port ${port} of ${host} is taken; set PORT, or stop the program that has it`, {
    cause: error,
  });
}
