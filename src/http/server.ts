// The socket's side of the API: the server with its time limits, what node decides about a request before Fastify sees it,
// and the answers to what is no HTTP at all.
// Invariants: a client that is slow or silent is cut within the limits; an expectation reaches our code instead of node's
// own 417 (docs/contract.md, Expect on the wire); even a broken request gets problem+json.
// Next room: app.ts.
import {
  createServer,
  type IncomingMessage,
  type RequestListener,
  type Server,
  type ServerResponse,
  STATUS_CODES,
} from 'node:http';
import type { Socket } from 'node:net';
import fp from 'fastify-plugin';
import { refusal } from '../domain/expectation.ts';
import { Problem, toBody } from '../domain/problem.ts';
import type { Admit } from './admission.ts';
import { requestIdOf } from './context.ts';
import { problemType } from './problem.ts';

/** Limits of the server, in ms, bytes and connections (docs/contract.md, Server limits). */
export interface ServerLimits {
  request_timeout_ms: number;
  headers_timeout_ms: number;
  check_interval_ms: number;
  keep_alive_ms: number;
  max_header_bytes: number;
  max_connections: number;
}

/** The limits in use unless a test shortens them. */
export const serverLimits: ServerLimits = {
  request_timeout_ms: 30_000,
  headers_timeout_ms: 10_000,
  check_interval_ms: 1_000,
  // Above the 60 s of usual balancers, so that it is never us who closes under a request on its way.
  keep_alive_ms: 72_000,
  max_header_bytes: 16 * 1024,
  max_connections: 20_000,
};

/** Makes the server around Fastify's handler, which sees what is admitted. */
export function serving(limits: ServerLimits, admit: Admit): (handler: RequestListener) => Server {
  return (handle) => {
    const handler: RequestListener = (request, response) => {
      if (admit(request, response)) handle(request, response);
    };
    const server = createServer(
      {
        requestTimeout: limits.request_timeout_ms,
        headersTimeout: limits.headers_timeout_ms,
        connectionsCheckingInterval: limits.check_interval_ms,
        keepAliveTimeout: limits.keep_alive_ms,
        maxHeaderSize: limits.max_header_bytes,
        // node's own answer to a missing Host has no body; ours is in `headerChecks`.
        requireHostHeader: false,
      },
      handler,
    );
    server.maxConnections = limits.max_connections;
    // Else processes that share a port would hand what is too much to each other for ever. (Node's types do not know it.)
    Object.assign(server, { dropMaxConnection: true });
    server.on('checkExpectation', handler);
    server.on('checkContinue', (request: IncomingMessage, response: ServerResponse) => {
      if (!admit(request, response)) return;
      const twin = request.headers['errand-expect'] as string | undefined;
      if (refusal(request.headers.expect, twin) === null) response.writeContinue();
      handle(request, response);
    });
    return server;
  };
}

const most_headers = 100;

/** Refuses header blocks that node would cut silently, and requests whose host is unclear. */
export const headerChecks = fp(
  async (app) => {
    app.addHook('onRequest', (request, reply, done) => {
      const problem = headerFault(request.raw);
      if (problem !== null) reply.header('connection', 'close');
      done(problem ?? undefined);
    });
  },
  { name: 'errand-header-checks', dependencies: ['errand-context'] },
);

// RFC 9112 sections 3.2 and 6.1: a request of HTTP/1.1 has exactly one Host, and chunked is the only coding read here.
// Unclear hosts and lengths are how requests are smuggled past a proxy.
function headerFault({ rawHeaders, headers, httpVersion }: IncomingMessage): Problem | null {
  if (rawHeaders.length > 2 * most_headers) {
    return new Problem('headers-too-large', {
      detail: `the request has more than ${most_headers} headers; send fewer`,
    });
  }
  const coding = headers['transfer-encoding'];
  if (coding !== undefined && coding.toLowerCase() !== 'chunked') {
    return new Problem('bad-header', {
      detail: 'the transfer-encoding is not chunked; send chunked or none',
    });
  }
  let hosts = 0;
  for (let i = 0; i < rawHeaders.length; i += 2) {
    const name = rawHeaders[i] as string;
    if (name.length === 4 && name.toLowerCase() === 'host') hosts += 1;
  }
  if (hosts === 1 || (hosts === 0 && httpVersion === '1.0')) return null;
  return new Problem('bad-header', {
    detail:
      hosts === 0 ? 'the host header is missing; send it' : 'the host header was sent twice; send it once',
  });
}

/** What node tells of bytes it could not read; `rawPacket` is a Buffer, which Fastify's types do not know. */
interface ClientError {
  readonly code: string;
  readonly rawPacket: unknown;
}

/** Answers what node could not read as a request, then closes. */
export function answerClientError(error: Error & ClientError, socket: Socket): void {
  if (error.code === 'ECONNRESET' || socket.destroyed || socket.writableEnded) return;
  if (!mayAnswer(socket)) {
    socket.destroy();
    return;
  }
  socket.end(rawAnswer(clientProblem(error)));
  // The client gets a moment to read the answer: closing on unread input would reset the connection under it.
  setTimeout(() => socket.destroy(), 1_000).unref();
}

// An answer that has begun, or is owed to an earlier request on the connection, must not be mixed with this one.
function mayAnswer(socket: Socket): boolean {
  const { _httpMessage: response } = socket as Socket & { _httpMessage?: ServerResponse | null };
  return socket.writable && (response == null || (!response.headersSent && !response.req.complete));
}

function clientProblem(error: ClientError): Problem {
  switch (error.code) {
    case 'ERR_HTTP_REQUEST_TIMEOUT':
      return new Problem('request-timeout', {
        detail: 'the request did not arrive completely in time; send it without long pauses',
      });
    case 'HPE_HEADER_OVERFLOW':
      return hasLongFirstLine(error.rawPacket)
        ? new Problem('uri-too-long', { detail: 'the URL is too long; send data in the body' })
        : new Problem('headers-too-large', {
            detail: 'the headers are too large; send fewer and shorter ones',
          });
    case 'HPE_CHUNK_EXTENSIONS_OVERFLOW':
      return new Problem('payload-too-large', { detail: 'the chunk extensions are too large; send none' });
    default:
      return new Problem('bad-header', {
        detail: 'this is not a request HTTP/1.1 can be read from; correct it',
      });
  }
}

// The parser says only that head and headers together are too large: a long first line is to blame where there is one.
function hasLongFirstLine(packet: unknown): boolean {
  return Buffer.isBuffer(packet) && /^[A-Z]+ \/[^\r\n]{8192}/.test(packet.toString('latin1'));
}

function rawAnswer(problem: Problem): string {
  const id = requestIdOf({ headers: {} });
  const body = JSON.stringify(toBody(problem, id));
  return [
    `HTTP/1.1 ${problem.status} ${STATUS_CODES[problem.status]}`,
    `Content-Type: ${problemType}`,
    `Content-Length: ${Buffer.byteLength(body)}`,
    `Date: ${new Date().toUTCString()}`,
    `X-Request-Id: ${id}`,
    'Cache-Control: no-store',
    'X-Content-Type-Options: nosniff',
    'Connection: close',
    '',
    body,
  ].join('\r\n');
}
