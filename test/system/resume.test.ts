// A process that is killed in the middle of a job: the next one goes on from the last checkpoint.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { cloneDatabase, type TestDatabase } from '../support/postgres.ts';
import { type Service, startService } from '../support/process.ts';
import { until } from '../support/until.ts';

let database: TestDatabase;
let service: Service | undefined;

const serve = () =>
  startService({
    env: {
      DATABASE_URL: database.url,
      ERRAND_HANDLERS_DIR: fileURLToPath(new URL('../support/threads', import.meta.url)),
      ERRAND_LEASE_SECONDS: '2',
      ERRAND_LOG_LEVEL: 'warn',
    },
  });

before(async () => {
  database = await cloneDatabase();
});

after(async () => {
  await service?.stop();
  await database?.drop();
});

interface Record {
  state: string;
  epoch: number;
  progress: { current: number; total: number } | null;
}

test('after kill -9 a job goes on where its last checkpoint was, not at its beginning', async () => {
  const first = await serve();
  const submitted = await fetch(`${first.url}/v1/jobs`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ type: 'walk', payload: { steps: 60, ms: 50 } }),
  });
  const path = submitted.headers.get('content-location');
  const recordAt = async (url: string) => (await (await fetch(`${url}${path}`)).json()) as Record;
  const seen = await until(
    async () => {
      const { progress } = await recordAt(first.url);
      return (progress?.current ?? 0) >= 10 ? progress : null;
    },
    { what: 'progress is shown while the job runs' },
  );
  await first.kill9();
  service = await serve();
  const { url } = service;
  const done = await until(
    async () => {
      const record = await recordAt(url);
      return record.state === 'succeeded' ? record : null;
    },
    { timeoutMs: 20_000, what: 'the job has succeeded' },
  );
  assert.deepEqual([done.epoch, done.progress], [2, { current: 60, total: 60 }]);
  const { from } = (await (await fetch(`${url}${path}/result`)).json()) as { from: number };
  assert.ok(from >= seen.current && from < 60, `went on from ${from}, was seen at ${seen.current}`);
});
