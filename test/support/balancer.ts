// Why this room exists: what a Service of Kubernetes does to a rollout, without a cluster: new connections go round-robin to
// the replicas it knows, and it learns late that one is leaving.
// Invariant: it repeats nothing and hides nothing; a connection that a replica refuses fails for the caller.
// Next room: test/drills/rolling.ts.
import { once } from 'node:events';
import net from 'node:net';

export interface Balancer {
  url: string;
  add(port: number): void;
  remove(port: number): void;
  /** Connections sent to a replica so far. */
  sent(port: number): number;
  stop(): void;
}

/** Opens a round-robin balancer on loopback. */
export async function balancer(): Promise<Balancer> {
  const ports: number[] = [];
  const sent = new Map<number, number>();
  const open = new Set<net.Socket>();
  let turn = 0;
  const server = net.createServer({ allowHalfOpen: true }, (front) => {
    const port = ports[turn++ % ports.length];
    if (port === undefined) {
      front.resetAndDestroy();
      return;
    }
    sent.set(port, (sent.get(port) ?? 0) + 1);
    const back = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true });
    for (const [from, to] of [
      [front, back],
      [back, front],
    ] as const) {
      open.add(from);
      from.setNoDelay(true);
      from.pipe(to);
      from.on('error', () => to.resetAndDestroy());
      from.on('close', () => {
        open.delete(from);
        to.end();
      });
    }
  });
  server.listen(0, '127.0.0.1', 1_024);
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as net.AddressInfo).port}`,
    add: (port) => ports.push(port),
    remove(port) {
      const at = ports.indexOf(port);
      if (at >= 0) ports.splice(at, 1);
    },
    sent: (port) => sent.get(port) ?? 0,
    stop() {
      server.close();
      for (const socket of open) socket.destroy();
    },
  };
}
