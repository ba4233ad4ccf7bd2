// The client most callers have: undici's pool, keep-alive, every answer read to its end. It costs several times what the
// raw sockets of load.ts cost, so beside it a server looks better than it is; that is how callers meet it, though.
// Next room: load.ts, which asks by it where the order says so.
import { Pool } from 'undici';
import type { LoadOrder, OnAnswer } from './load.ts';

export interface OrdinaryClient {
  /** Sends one request after another as long as `onAnswer` says so. */
  converse(onAnswer: OnAnswer): Promise<void>;
  close(): Promise<void>;
}

export function ordinaryClient({ port, path, body, connections }: LoadOrder): OrdinaryClient {
  const limits = { connectTimeout: 10_000, headersTimeout: 10_000, bodyTimeout: 10_000 };
  const pool = new Pool(`http://127.0.0.1:${port}`, { connections, pipelining: 1, ...limits });
  const headers = { 'content-type': 'application/json' };
  return {
    async converse(onAnswer) {
      for (;;) {
        const sentAt = performance.now();
        const answer = await pool.request({ method: 'POST', path, headers, body });
        await answer.body.text();
        if (!onAnswer(String(answer.statusCode), sentAt, performance.now())) return;
      }
    },
    close: () => pool.close(),
  };
}
