// The load generator: keep-alive connections that each send one request, await its answer and send the next. Raw
// sockets, because an HTTP client in Node costs more than the server that is measured.
// Invariants: loopback only; it ends after the seconds it was given; every request that was sent is answered before the
// connection closes, so the counts of both sides can be compared exactly.
// Next room: post.ts, which starts it as a process of its own.
import { connect } from 'node:net';
import { quantile } from './measure.ts';
import { ordinaryClient } from './ordinary.ts';

export interface LoadOrder {
  port: number;
  path: string;
  body: string;
  connections: number;
  warm_up_seconds: number;
  seconds: number;
  /** Absent: raw sockets. */
  client?: 'undici';
  /** With raw sockets: an Idempotency-Key for each request, unique by this beginning. */
  keys?: string;
}

export interface LoadResult {
  /** Answers within the measured seconds, by the clock of the generator. */
  per_second: number;
  p50_ms: number;
  p99_ms: number;
  /** Answers in all, warm-up included, by status. */
  statuses: Record<string, number>;
}

const most_seconds = 60;

process.once('message', async (order: LoadOrder) => {
  try {
    process.send?.({ value: await load(order) });
  } catch (error) {
    process.send?.({ error: String(error) });
  }
  process.disconnect();
});

async function load(order: LoadOrder): Promise<LoadResult> {
  const { port, connections, warm_up_seconds, seconds } = order;
  if (warm_up_seconds + seconds > most_seconds) throw new Error(`more than ${most_seconds} s of load`);
  const requests = requestsOf(order);
  const statuses: Record<string, number> = {};
  const times: number[] = [];
  const began = performance.now();
  const from = began + warm_up_seconds * 1_000;
  const until = from + seconds * 1_000;
  const onAnswer: OnAnswer = (status, sentAt, now) => {
    statuses[status] = (statuses[status] ?? 0) + 1;
    if (now >= from && now < until) times.push(now - sentAt);
    return now < until;
  };
  const ordinary = order.client === undefined ? null : ordinaryClient(order);
  await Promise.all(
    Array.from({ length: connections }, () =>
      ordinary === null ? converse(port, requests, onAnswer) : ordinary.converse(onAnswer),
    ),
  );
  await ordinary?.close();
  const sorted = Float64Array.from(times).sort();
  return {
    per_second: sorted.length / seconds,
    p50_ms: quantile(sorted, 0.5),
    p99_ms: quantile(sorted, 0.99),
    statuses,
  };
}

/** What to send next. */
function requestsOf({ port, path, body, keys }: LoadOrder): () => Buffer {
  const before = [
    `POST ${path} HTTP/1.1`,
    `Host: 127.0.0.1:${port}`,
    'Content-Type: application/json',
    `Content-Length: ${Buffer.byteLength(body)}`,
  ].join('\r\n');
  const whole = (head: string) => Buffer.from(`${head}\r\n\r\n${body}`);
  const same = whole(before);
  let sent = 0;
  return keys === undefined ? () => same : () => whole(`${before}\r\nIdempotency-Key: ${keys}${sent++}`);
}

/** Counts an answer; says whether to send another request. */
export type OnAnswer = (status: string, sentAt: number, now: number) => boolean;

/** One connection: sends the request again as long as `onAnswer` says so. Understands answers with Content-Length. */
function converse(port: number, requests: () => Buffer, onAnswer: OnAnswer): Promise<void> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: '127.0.0.1', port, noDelay: true });
    let text = '';
    let sentAt = 0;
    const send = () => {
      sentAt = performance.now();
      socket.write(requests());
    };
    socket.setEncoding('latin1');
    socket.setTimeout(10_000, () => socket.destroy(new Error('no answer in 10 s')));
    socket
      .once('connect', send)
      .once('error', reject)
      .once('close', () => resolve());
    socket.on('data', (chunk: string) => {
      text = text === '' ? chunk : text + chunk;
      const end = text.indexOf('\r\n\r\n');
      if (end < 0 || text.length < end + 4 + contentLength(text, end)) return;
      const status = text.slice(9, 12);
      text = '';
      if (onAnswer(status, sentAt, performance.now())) send();
      else socket.end();
    });
  });
}

function contentLength(text: string, end: number): number {
  const found = /\r\ncontent-length: *(\d+)/i.exec(text.slice(0, end));
  if (found === null) throw new Error('an answer without Content-Length');
  return Number(found[1]);
}
