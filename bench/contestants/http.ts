// Errand as its callers see it: jobs are enqueued at `POST /v1/jobs` of a server that runs already.
// Next room: errand.ts, which is the rest of it.
import { Pool } from 'undici';
import type { Contestant } from '../contestant.ts';
import { contestant as inProcess } from './errand.ts';

const connections = 128;
const longest_ms = 10_000;

export const contestant: Contestant = {
  ...inProcess,

  async produce(origin, payload) {
    const pool = new Pool(origin, { connections, headersTimeout: longest_ms, bodyTimeout: longest_ms });
    const request = {
      method: 'POST',
      path: '/v1/jobs',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ type: 'noop', payload }),
    } as const;
    return {
      async enqueue() {
        const { statusCode, body } = await pool.request(request);
        const { id } = (await body.json()) as { id: string };
        if (statusCode !== 202) throw new Error(`the server answered ${statusCode}`);
        return id;
      },
      close: () => pool.close(),
    };
  },
};
