// The target that is pushed to, a process of its own: takes the body, answers with a small result and remembers who came.
// Next room: figures/push.ts; rawpush.ts and contestants/push.ts, which send.
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

/** What it was sent since it was last asked. */
export interface Received {
  requests: number;
  /** `Errand-Job-Id`s; none of raw requests. */
  ids: string[];
}

const result = '{"ok":true}';
const headers = { 'content-type': 'application/json', 'content-length': result.length };

let ids: string[] = [];
let requests = 0;

const server = createServer((request, response) => {
  request.resume().once('end', () => {
    requests++;
    const id = request.headers['errand-job-id'];
    if (typeof id === 'string') ids.push(id);
    response.writeHead(200, headers).end(result);
  });
});
// Longer than any pause between two loads, so that no connection is closed under a request.
server.keepAliveTimeout = 120_000;
server.listen(0, '127.0.0.1', () => process.send?.({ port: (server.address() as AddressInfo).port }));

process.on('message', () => {
  process.send?.({ requests, ids } satisfies Received);
  ids = [];
  requests = 0;
});
process.on('disconnect', () => process.exit(0));
