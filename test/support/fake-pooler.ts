// Why this room exists: what tells a pooler from Postgres (a key for cancels of its own making, startup packets refused)
// can be had without one.
// Invariant: it forwards only to the one loopback port it was made for, and stops with the test.
// Next room: pgbouncer.ts, the real one.
import { once } from 'node:events';
import net from 'node:net';

export interface FakePooler {
  /** The address of a database, by way of the pooler. */
  before(url: string): string;
  stop(): Promise<void>;
}

/** `refusing`: startup packets with settings are answered as PgBouncer does. */
export async function fakePooler(target: string, refusing: boolean): Promise<FakePooler> {
  const sockets = new Set<net.Socket>();
  const server = net.createServer((front) => {
    const back = net.connect(Number(new URL(target).port), '127.0.0.1');
    for (const socket of [front, back]) {
      sockets.add(socket);
      socket.on('error', () => {});
      socket.on('close', () => {
        front.destroy();
        back.destroy();
      });
    }
    front.once('data', (packet) => {
      if (!refusing || !packet.includes('\0options\0')) return;
      front.end(refusal('unsupported startup parameter: options'));
    });
    front.on('data', (chunk) => {
      if (!front.writableEnded) back.write(chunk);
    });
    back.on('data', (chunk) => front.write(withOtherKey(chunk)));
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    before(url) {
      const address = new URL(url);
      address.port = String((server.address() as net.AddressInfo).port);
      return address.href;
    },
    async stop() {
      server.close();
      for (const socket of sockets) socket.destroy();
    },
  };
}

/** BackendKeyData is 'K', its length of 12, and then the process, which is ours from here on. */
function withOtherKey(chunk: Buffer): Buffer {
  const at = chunk.indexOf(Buffer.from([0x4b, 0, 0, 0, 12]));
  if (at >= 0 && chunk.length >= at + 9) chunk.writeInt32BE(1, at + 5);
  return chunk;
}

function refusal(message: string): Buffer {
  const fields = Buffer.from(`SFATAL\0C08P01\0M${message}\0\0`);
  const head = Buffer.from([0x45, 0, 0, 0, 0]);
  head.writeInt32BE(fields.length + 4, 1);
  return Buffer.concat([head, fields]);
}
