// Whoever reads what a service prints may go away; the service has no part in that.
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { cloneDatabase, type TestDatabase } from '../support/postgres.ts';
import { startService } from '../support/process.ts';

let database: TestDatabase;

before(async () => {
  database = await cloneDatabase();
});
after(() => database.drop());

test('who read its log may go: it serves on, and ends in order', async () => {
  const service = await startService({
    env: { DATABASE_URL: database.url, ERRAND_LOG_LEVEL: 'debug' },
  });
  try {
    service.child.stdout?.destroy();
    service.child.stderr?.destroy();
    for (let i = 0; i < 3; i++) {
      const answer = await fetch(`${service.url}/v1/jobs`, {
        method: 'POST',
        headers: { 'content-type': 'application/json' },
        body: '{"type":"unheard"}',
      });
      assert.equal(answer.status, 202);
    }
  } finally {
    assert.equal(await service.stop('SIGINT'), 0);
  }
});
