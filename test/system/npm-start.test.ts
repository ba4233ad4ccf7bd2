// npm ends at a signal without passing it on: the service that npm start began must end with it, not live on unseen.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { freePort } from '../../src/embedded/server.ts';
import { spawnTied } from '../support/children.ts';
import { cloneDatabase } from '../support/postgres.ts';
import { neutralEnvironment } from '../support/process.ts';
import { until } from '../support/until.ts';

test('the service ends when the npm that started it is ended', async () => {
  const database = await cloneDatabase();
  const port = await freePort();
  const shell = spawnTied('sh', ['-c', 'node preflight.js serve --migrate; true'], {
    cwd: fileURLToPath(new URL('../..', import.meta.url)),
    stdio: 'ignore',
    env: {
      ...neutralEnvironment(process.env),
      npm_lifecycle_event: 'start',
      DATABASE_URL: database.url,
      PORT: String(port),
    },
  });
  const answers = () => fetch(`http://127.0.0.1:${port}/health/live`).then((answer) => answer.ok);
  try {
    await until(answers, { timeoutMs: 20_000 });
    shell.kill('SIGTERM');
    await until(
      () =>
        answers().then(
          () => false,
          () => true,
        ),
      { timeoutMs: 10_000 },
    );
  } finally {
    shell.kill('SIGKILL');
    await database.drop();
  }
  assert.ok(shell.killed);
});
