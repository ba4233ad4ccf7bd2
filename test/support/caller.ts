// Why this room exists: what a proxy does is seen by a client that helps as little as possible: one connection per call, no
// repeat, no redirect, every header as it came.
// Invariant: every call has a limit, and no answer within it is a value, not an error.
// Next room: proxy-cases.ts, which asks.
import assert from 'node:assert/strict';
import { type IncomingHttpHeaders, request } from 'node:http';

/** An answer as the caller got it. */
export interface Answer {
  status: number;
  headers: IncomingHttpHeaders;
  body: string;
}

export interface Call {
  path: string;
  headers?: Record<string, string>;
  /** Sent as JSON; without one it is a GET. */
  body?: unknown;
  limit_ms?: number;
  signal?: AbortSignal;
}

/** One call on a connection of its own, as a client with keep-alive sends it; null when no answer came. */
export function call(
  port: number,
  { path, headers, body, limit_ms = 5_000, signal }: Call,
): Promise<Answer | null> {
  return new Promise((resolve) => {
    const limit = AbortSignal.timeout(limit_ms);
    const outgoing = request({
      ...{ host: '127.0.0.1', port, path, method: body === undefined ? 'GET' : 'POST', agent: false },
      signal: signal === undefined ? limit : AbortSignal.any([limit, signal]),
      headers: {
        connection: 'keep-alive',
        'x-request-id': 'drill',
        ...(body !== undefined && { 'content-type': 'application/json' }),
        ...headers,
      },
    });
    outgoing.on('error', () => resolve(null));
    outgoing.once('response', (response) => {
      let text = '';
      response.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk;
      });
      response.on('error', () => resolve(null));
      response.once('end', () => {
        outgoing.destroy();
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body: text });
      });
    });
    outgoing.end(body === undefined ? undefined : JSON.stringify(body));
  });
}

/** Submits a job of a type with a small payload. */
export function submit(
  port: number,
  type: string,
  headers: Record<string, string> = {},
  signal?: AbortSignal,
): Promise<Answer | null> {
  return call(port, { path: '/v1/jobs', headers, body: { type, payload: 1 }, ...(signal && { signal }) });
}

/** Starts the job of a type. */
export async function lease(service: number, type: string): Promise<{ id: string; job: { id: string } }> {
  const body = { worker: 'drill', types: [type] };
  const answer = await call(service, { path: '/v1/leases', body, headers: { prefer: 'wait=5' } });
  const { leases } = JSON.parse(answer?.body ?? '') as { leases: { id: string; job: { id: string } }[] };
  assert.ok(leases[0], 'the job was not handed out');
  return leases[0];
}

/** Completes the start of a lease. */
export async function complete(service: number, leaseId: string): Promise<void> {
  const answer = await call(service, { path: `/v1/leases/${leaseId}/complete`, body: { result: 1 } });
  assert.equal(answer?.status, 200);
}

/** When some words of a stream of events arrived; null when it ended without them. */
export function heard(
  port: number,
  path: string,
  words: string,
  signal: AbortSignal,
): Promise<number | null> {
  return new Promise((resolve) => {
    const headers = { accept: 'text/event-stream' };
    const outgoing = request({ host: '127.0.0.1', port, path, agent: false, headers, signal });
    outgoing.on('error', () => resolve(null));
    outgoing.once('response', (response) => {
      let text = '';
      response.on('error', () => resolve(null)).once('end', () => resolve(null));
      response.setEncoding('utf8').on('data', (chunk: string) => {
        text += chunk;
        if (text.includes(words)) resolve(performance.now());
      });
    });
    outgoing.end();
  });
}

/** Callers that wait in the service. */
export async function waiters(service: number): Promise<number> {
  return sumOf(service, /^errand_waiters (\d+)/gm);
}

/** Streams of events that are open in the service. */
export async function streams(service: number): Promise<number> {
  return sumOf(service, /^errand_streams (\d+)/gm);
}

/** Submits that the service has answered so far. */
export async function submits(service: number): Promise<number> {
  return sumOf(service, /^errand_http_request_seconds_count\{[^}]*route="\/v1\/jobs"[^}]*\} (\d+)/gm);
}

async function sumOf(service: number, samples: RegExp): Promise<number> {
  const answer = await call(service, { path: '/metrics' });
  const values = [...(answer?.body ?? '').matchAll(samples)].map(([, value]) => Number(value));
  return values.reduce((sum, value) => sum + value, 0);
}
