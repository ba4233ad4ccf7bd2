// Why this room exists: what callers see while replicas come and go, or their database does, shows only under all kinds of
// calls at once: submits under a key, waits for the answer, polls, pull workers, jobs of handlers and of targets.
// Invariants: calls come at a fixed rate whatever becomes of earlier ones; nothing is repeated, so each failure is seen.
// Next room: load-books.ts, which compares what was answered with what is stored; the drills rolling and database-outage.
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import http from 'node:http';
import type { AddressInfo } from 'node:net';

export const kinds = ['submit', 'wait', 'poll', 'push', 'pull', 'lease', 'complete'] as const;
export type Kind = (typeof kinds)[number];

export interface Call {
  kind: Kind;
  /** Monotonic ms at which it was sent, and what it took. */
  at: number;
  ms: number;
  /** 0: no answer came; `fault` says why. */
  status: number;
  fault: string | null;
  /** Whether the connection had carried a call before, and whether the answer closed it. */
  reused: boolean;
  closed: boolean;
  retry_after: number | null;
}

export interface MixedLoad {
  calls: readonly Call[];
  /** Ids that were acknowledged. */
  acked: ReadonlySet<string>;
  /** Sends no more, lets workers finish what they hold, and waits for what is under way. */
  stop(): Promise<void>;
  close(): Promise<void>;
}

export interface LoadOptions {
  url: string;
  /** Calls a second, those of pull workers on top. */
  rate: number;
  workers: number;
}

interface Answer {
  status: number;
  body: string;
}

const call_limit_ms = 30_000;
/** In turn; of ten calls four are submits, two wait, two poll. */
const turns: readonly Kind[] = [
  'submit',
  'wait',
  'push',
  'poll',
  'submit',
  'pull',
  'submit',
  'wait',
  'poll',
  'submit',
];

/** Begins to call. */
export async function mixedLoad({ url, rate, workers }: LoadOptions): Promise<MixedLoad> {
  const calls: Call[] = [];
  const acked = new Set<string>();
  const recent: string[] = [];
  const kept = new http.Agent({ keepAlive: true, maxSockets: 64 });
  const fresh = new http.Agent({ keepAlive: false });
  const target = http.createServer((request, answer) => {
    request.resume().on('end', () => setTimeout(() => answer.writeHead(204).end(), 100));
  });
  target.listen(0, '127.0.0.1');
  await once(target, 'listening');
  const targetUrl = `http://127.0.0.1:${(target.address() as AddressInfo).port}/`;
  let flowing = true;
  let sent = 0;
  const under = new Set<Promise<void>>();

  function call(
    kind: Kind,
    method: string,
    path: string,
    body: object | undefined,
    headers: Record<string, string> = {},
  ): Promise<Answer> {
    const at = performance.now();
    // Half of the callers keep their connections, as balancers and libraries do.
    const agent = sent++ % 2 === 0 ? kept : fresh;
    return new Promise((resolve) => {
      const end = (status: number, text: string, fault: string | null, answer?: http.IncomingMessage) => {
        const after = answer?.headers['retry-after'];
        calls.push({
          kind,
          at,
          ms: performance.now() - at,
          status,
          fault,
          reused: request.reusedSocket,
          closed: agent === kept && answer?.headers.connection === 'close',
          retry_after: after === undefined ? null : Number(after),
        });
        resolve({ status, body: text });
      };
      const request = http.request(url + path, {
        agent,
        method,
        timeout: call_limit_ms,
        headers: { ...(body === undefined ? {} : { 'content-type': 'application/json' }), ...headers },
      });
      request.on('timeout', () => request.destroy(new Error(`no answer within ${call_limit_ms} ms`)));
      request.on('error', (error) => end(0, '', error.message));
      request.on('response', (answer) => {
        let text = '';
        answer.setEncoding('utf8').on('data', (chunk: string) => {
          text += chunk;
        });
        answer.on('error', (error) => end(0, text, error.message));
        answer.on('end', () => {
          const status = answer.statusCode ?? 0;
          end(status, text, status < 400 ? null : text.slice(0, 300), answer);
        });
      });
      request.end(body === undefined ? undefined : JSON.stringify(body));
    });
  }

  async function submit(kind: Kind, job: object, headers: Record<string, string> = {}): Promise<void> {
    const keyed = { 'idempotency-key': randomUUID(), ...headers };
    const { status, body } = await call(kind, 'POST', '/v1/jobs', job, keyed);
    if (status !== 202) return;
    const { id } = JSON.parse(body) as { id: string };
    acked.add(id);
    recent.push(id);
    if (recent.length > 200) recent.shift();
  }

  async function one(n: number): Promise<void> {
    const kind = turns[n % turns.length] as Kind;
    const payload = n;
    if (kind === 'submit') return submit(kind, { type: 'steady', payload });
    if (kind === 'push') return submit(kind, { type: 'pushed', payload, target: { url: targetUrl } });
    if (kind === 'pull') return submit(kind, { type: 'pulled', payload });
    const id = recent[(n * 7) % Math.max(1, recent.length)];
    if (kind === 'poll' && id !== undefined) {
      await call(kind, 'GET', `/v1/jobs/${id}/status`, undefined);
      return;
    }
    await call(
      'wait',
      'POST',
      '/v1/jobs',
      { type: 'steady', payload },
      { 'errand-expect': '200-ok', prefer: 'wait=20', 'idempotency-key': randomUUID() },
    );
  }

  async function worker(name: string): Promise<void> {
    while (flowing) {
      const ask = { worker: name, types: ['pulled'], limit: 5 };
      const { status, body } = await call('lease', 'POST', '/v1/leases', ask, { prefer: 'wait=3' });
      if (status !== 200) {
        await new Promise((resolve) => setTimeout(resolve, 500));
        continue;
      }
      const { leases } = JSON.parse(body) as { leases: { id: string }[] };
      for (const lease of leases) {
        await call('complete', 'POST', `/v1/leases/${lease.id}/complete`, { result: { by: name } });
      }
    }
  }

  const track = (work: Promise<void>) => {
    under.add(work);
    void work.finally(() => under.delete(work));
  };
  const began = performance.now();
  let n = 0;
  const timer = setInterval(() => {
    // Timers come late on a busy machine: what is owed is sent, so the rate holds.
    while (n < ((performance.now() - began) / 1_000) * rate) track(one(n++));
  }, 5);
  for (let w = 0; w < workers; w++) track(worker(`worker-${w}`));

  return {
    calls,
    acked,
    async stop() {
      clearInterval(timer);
      flowing = false;
      while (under.size > 0) await Promise.all(under);
    },
    async close() {
      clearInterval(timer);
      flowing = false;
      for (const agent of [kept, fresh]) agent.destroy();
      target.close();
      target.closeAllConnections();
    },
  };
}
