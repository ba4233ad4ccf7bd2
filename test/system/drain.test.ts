// SIGTERM: everybody who waits is answered, silent sockets hold nothing up, running jobs are finished or given back.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import { after, before, test } from 'node:test';
import pg from 'pg';
import { cloneDatabase, type TestDatabase } from '../support/postgres.ts';
import { startService } from '../support/process.ts';
import { until } from '../support/until.ts';

let database: TestDatabase;

before(async () => {
  database = await cloneDatabase();
});

after(() => database.drop());

test('answers 100 waiting callers and exits 0 within its deadline, with silent sockets open', async () => {
  const service = await startService({
    env: { DATABASE_URL: database.url, ERRAND_DRAIN_DEADLINE_SECONDS: '10', ERRAND_LOG_LEVEL: 'error' },
  });
  const submit = (n: number) =>
    fetch(`${service.url}/v1/jobs`, {
      method: 'POST',
      headers: {
        'content-type': 'application/json',
        ...(n % 2 === 0 ? { 'errand-expect': '200-ok', prefer: 'wait=20' } : { prefer: 'wait=20' }),
        ...(n % 4 === 0 ? { 'idempotency-key': `drain-${n}` } : {}),
      },
      body: JSON.stringify({ type: 'nobody', payload: n }),
    }).then(async (answer) => ({
      n,
      status: answer.status,
      body: (await answer.json()) as Record<string, unknown>,
    }));
  const answers = Array.from({ length: 100 }, (_, n) => submit(n));
  const silent = await Promise.all(
    [
      '',
      'POST /v1/jobs HTTP/1.1\r\n',
      'POST /v1/jobs HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{',
    ].map(async (text) => {
      const socket = net.connect(service.port, '127.0.0.1');
      socket.on('error', () => {});
      await once(socket, 'connect');
      socket.write(text);
      return socket;
    }),
  );
  await until(async () => (await waiters(service.url)) === 100, { timeoutMs: 10_000 });
  const began = performance.now();
  const code = service.stop('SIGTERM');
  const all = await Promise.all(answers);
  assert.equal(await code, 0, service.output());
  assert.ok(performance.now() - began < 5_000, 'silent sockets held the drain up');
  for (const { n, status, body } of all) {
    if (n % 2 === 1) assert.equal(status, 202, JSON.stringify(body));
    else {
      assert.deepEqual([status, body.code], [503, 'draining']);
      // With a key the job is left for the replay; without one it is taken back.
      assert.equal(body.executed, n % 4 === 0 ? 'pending' : false, JSON.stringify(body));
    }
  }
  for (const socket of silent) socket.destroy();
});

test('gives a leased job back when its lease ends, and finishes what handlers run', async () => {
  const service = await startService({
    env: {
      DATABASE_URL: database.url,
      ERRAND_DRAIN_DEADLINE_SECONDS: '10',
      ERRAND_HANDLERS_DIR: 'examples/handlers',
    },
  });
  const accepted = await fetch(`${service.url}/v1/jobs`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: '{"type":"echo","payload":"before the end"}',
  });
  const { id } = (await accepted.json()) as { id: string };
  assert.equal(await service.stop('SIGTERM'), 0, service.output());
  const client = new pg.Client({ connectionString: database.url });
  await client.connect();
  const { rows } = await client.query('select state, attempt from errand.job_facts($1)', [[id]]);
  await client.end();
  assert.ok(['succeeded', 'queued'].includes(rows[0].state), rows[0].state);
});

async function waiters(url: string): Promise<number> {
  const text = await (await fetch(`${url}/metrics`)).text();
  return Number(/^errand_waiters (\d+)$/m.exec(text)?.[1]);
}
