// Why this room exists: a network that fails, without root: a TCP proxy on loopback that can go silent, reset, or refuse.
// Invariant: it forwards to one loopback port at a time, and stops with the test.
import { once } from 'node:events';
import net from 'node:net';

export interface FaultProxy {
  port: number;
  /** Connections that came, whether they led anywhere or not. */
  readonly came: number;
  /** Goes on accepting but forwards nothing: no answer and no reset. */
  blackHole(): void;
  /** Forwards new connections to another port. */
  aim(port: number): void;
  /** Cuts every connection and refuses new ones. */
  refuse(): Promise<void>;
  /** Forwards again; what was swallowed stays lost, as in a real network. */
  heal(): Promise<void>;
  stop(): Promise<void>;
}

/** Opens a proxy before a loopback port. */
export async function faultProxy(target: number): Promise<FaultProxy> {
  let aim = target;
  const pairs = new Set<[net.Socket, net.Socket]>();
  let silent = false;
  let came = 0;
  const server = net.createServer((front) => {
    came++;
    const back = net.connect(aim, '127.0.0.1');
    const pair: [net.Socket, net.Socket] = [front, back];
    pairs.add(pair);
    const close = () => {
      pairs.delete(pair);
      front.destroy();
      back.destroy();
    };
    for (const [from, to] of [pair, [back, front] as const]) {
      from.on('data', (chunk) => {
        if (!silent) to.write(chunk);
      });
      from.on('error', close);
      from.on('close', close);
    }
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as net.AddressInfo;
  const cut = () => {
    for (const [front, back] of [...pairs]) {
      front.resetAndDestroy();
      back.destroy();
    }
  };
  return {
    port,
    get came() {
      return came;
    },
    blackHole() {
      silent = true;
    },
    aim(port) {
      aim = port;
    },
    async refuse() {
      server.close();
      cut();
    },
    async heal() {
      silent = false;
      cut();
      if (server.listening) return;
      server.listen(port, '127.0.0.1');
      await once(server, 'listening');
    },
    async stop() {
      server.close();
      cut();
    },
  };
}
