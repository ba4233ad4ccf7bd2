// Batches are all or nothing also where the process that takes them in is killed half-way: whoever repeats a call under its
// key until it is answered ends with every job exactly once.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import pg from 'pg';
import { calling } from '../support/call.ts';
import { cloneDatabase } from '../support/postgres.ts';
import { type Service, startService } from '../support/process.ts';

const batches = 20;
const size = 500;
const kills = 2;

test('10,000 jobs in batches survive kill -9 of the service, each exactly once', async () => {
  const database = await cloneDatabase();
  const env = { DATABASE_URL: database.url, ERRAND_LOG_LEVEL: 'error' };
  let service: Service = await startService({ env });
  const port = String(service.port);
  const call = calling(() => `http://127.0.0.1:${port}`);
  const told = new Map<string, string>();
  let interrupted = 0;
  let answered = 0;
  let killed = 0;
  let restarting: Promise<void> | undefined;

  /** The service is killed while further batches are on their way, and comes back on the same port. */
  async function crash(): Promise<void> {
    killed++;
    await service.kill9();
    service = await startService({ env: { ...env, PORT: port } });
  }

  async function submit(n: number): Promise<void> {
    const jobs = Array.from({ length: size }, (_, i) => ({ type: 'counted', payload: n * size + i }));
    for (;;) {
      const answer = await call
        .post('/v1/jobs/batch', { jobs }, { 'idempotency-key': `batch-${n}` })
        .catch(() => null);
      if (answer === null || answer.status >= 500) {
        interrupted++;
        await (restarting ?? new Promise((resolve) => setTimeout(resolve, 20)));
        continue;
      }
      assert.equal(answer.status, 202, JSON.stringify(answer.json).slice(0, 500));
      assert.equal(answer.json.jobs.length, size);
      for (const [i, job] of answer.json.jobs.entries()) told.set(job.id, String(n * size + i));
      answered++;
      if (killed < kills && answered % 4 === 0) restarting = crash();
      return;
    }
  }

  let next = 0;
  await Promise.all(
    Array.from({ length: 4 }, async () => {
      while (next < batches) await submit(next++);
    }),
  );
  await restarting;
  const client = new pg.Client({ connectionString: database.url });
  try {
    await client.connect();
    const { rows } = await client.query<{ id: string; payload: string }>(
      'select id, payload from errand.job',
    );
    assert.equal(rows.length, batches * size, 'no batch was stored in part or twice');
    assert.equal(told.size, batches * size, 'every job was told to its caller');
    for (const { id, payload } of rows) assert.equal(told.get(id), payload);
    assert.equal(killed, kills);
    assert.ok(interrupted > 0, 'no call was ever interrupted: nothing was proven');
  } finally {
    await client.end();
    await service.stop();
    await database.drop();
  }
});
