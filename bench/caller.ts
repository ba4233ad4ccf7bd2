// One caller on one keep-alive connection: a request, its whole answer, and how long that took. A raw socket, because the
// client would else cost more than the server that is measured, and because clients know only one `Expect`.
// Invariants: loopback only; one request at a time; no answer takes longer than 30 s.
// Next room: load.ts, which is many of them at once.
import { once } from 'node:events';
import { connect } from 'node:net';

export interface Answered {
  status: number;
  body: string;
  took_ms: number;
}

export interface Caller {
  post(path: string, body: string, headers?: Readonly<Record<string, string>>): Promise<Answered>;
  close(): void;
}

const longest_ms = 30_000;

/** Connects to a server on this machine. */
export async function calling(port: number): Promise<Caller> {
  const socket = connect({ host: '127.0.0.1', port, noDelay: true });
  await once(socket, 'connect');
  let text = '';
  let answer = (_: Omit<Answered, 'took_ms'>) => {};
  let fail = (_: Error) => {};
  socket.setEncoding('latin1');
  socket.setTimeout(longest_ms, () => socket.destroy(new Error(`no answer in ${longest_ms} ms`)));
  socket.on('error', (error) => fail(error));
  socket.on('close', () => fail(new Error('the server closed the connection')));
  socket.on('data', (chunk: string) => {
    text += chunk;
    const end = text.indexOf('\r\n\r\n');
    if (end < 0) return;
    const length = Number(/\r\ncontent-length: *(\d+)/i.exec(text.slice(0, end))?.[1] ?? 0);
    if (text.length < end + 4 + length) return;
    const body = text.slice(end + 4);
    const status = Number(text.slice(9, 12));
    text = '';
    answer({ status, body });
  });
  return {
    post(path, body, headers = {}) {
      const request = [
        `POST ${path} HTTP/1.1`,
        `Host: 127.0.0.1:${port}`,
        'Content-Type: application/json',
        `Content-Length: ${Buffer.byteLength(body)}`,
        ...Object.entries(headers).map(([name, value]) => `${name}: ${value}`),
        '',
        body,
      ].join('\r\n');
      return new Promise((resolve, reject) => {
        fail = reject;
        const began = performance.now();
        answer = (answered) => resolve({ ...answered, took_ms: performance.now() - began });
        socket.write(request);
      });
    },
    close: () => socket.destroy(),
  };
}
