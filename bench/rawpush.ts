// The limit of pushing: the same HTTP client sends the same requests to the same target, so many at once, and nothing else:
// headers that are always the same, answers that are read and dropped.
// Next room: figures/push.ts, which starts it.
import { randomBytes } from 'node:crypto';
import { Pool } from 'undici';
import { pushHeaders } from '../src/domain/push.ts';
import { payloadText } from './payload.ts';

export interface RawOrder {
  port: number;
  count: number;
  /** Requests before the clock starts, in the same process. */
  warm_up: number;
  inFlight: number;
}

export interface RawResult {
  seconds: number;
  node_us: number;
}

const longest_ms = 60_000;

/** As long as those of a push. */
const headers = {
  ...pushHeaders(
    {
      ...{ job_id: '1000000', queue: 'default', type: 'noop', attempt: 1, max_attempts: 8, epoch: 1 },
      ...{ deadline: new Date(), options: null },
    },
    {
      ...{ lease_id: `lse_${'0'.repeat(76)}`, body: Buffer.from(payloadText), now: new Date() },
      ...{ secrets: [randomBytes(32)], release: '0.1.0', span_id: null },
    },
  ),
  // The target counts jobs by it.
  'Errand-Job-Id': 'raw',
};

process.once('message', async (order: RawOrder) => {
  try {
    await send({ ...order, count: order.warm_up });
    process.send?.({ value: await send(order) });
  } catch (error) {
    process.send?.({ error: String(error) });
  }
  process.disconnect();
});

async function send({ port, count, inFlight }: Omit<RawOrder, 'warm_up'>): Promise<RawResult> {
  const pool = new Pool(`http://127.0.0.1:${port}`, { connections: inFlight, pipelining: 1 });
  const signal = AbortSignal.timeout(longest_ms);
  let left = count;
  const loop = async () => {
    while (left-- > 0) {
      signal.throwIfAborted();
      const { statusCode, body } = await pool.request({
        method: 'POST',
        path: '/',
        headers,
        body: payloadText,
      });
      await body.arrayBuffer();
      if (statusCode !== 200) throw new Error(`the target answered ${statusCode}`);
    }
  };
  const cpu = process.cpuUsage();
  const began = performance.now();
  await Promise.all(Array.from({ length: inFlight }, loop));
  const seconds = (performance.now() - began) / 1_000;
  const { user, system } = process.cpuUsage(cpu);
  await pool.close();
  return { seconds, node_us: user + system };
}
