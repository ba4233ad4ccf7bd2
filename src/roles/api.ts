// Listens, and stops listening without a failed request: readiness is off already, waiters are released before the close,
// and what is still open at the deadline is cut.
// Next room: http/app.ts.
import type { AddressInfo } from 'node:net';
import type { App } from '../http/app.ts';
import type { Service } from './service.ts';

export interface Api extends Service {
  /** Where it listens, once started. */
  url(): string;
}

export function api(app: App, host: string, port: number): Api {
  let url = '';
  return {
    name: 'api',
    async start() {
      await app.listen({ host, port });
      const address = app.server.address() as AddressInfo;
      const shown = address.family === 'IPv6' ? `[${address.address}]` : address.address;
      url = `http://${shown}:${address.port}`;
    },
    async stop(deadline) {
      // A silent socket or a half-sent request would keep close() waiting for ever.
      const cut = setTimeout(
        () => app.server.closeAllConnections(),
        Math.max(0, deadline - performance.now() - 500),
      );
      try {
        await app.close();
      } finally {
        clearTimeout(cut);
      }
    },
    url: () => url,
  };
}
