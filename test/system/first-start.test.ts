// Why this room exists: "npm ci && npm start" with nothing set is the first minute of every newcomer.
// Invariant: no second start, no kill -9 and no Ctrl-C loses a job or leaves a database behind.
// Next room: src/embedded/postgres.ts.
import assert from 'node:assert/strict';
import { mkdtemp } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { findSurvivor, isGone } from '../../src/embedded/survivor.ts';
import { exitOf } from '../support/children.ts';
import { type Service, startService } from '../support/process.ts';
import { removeDataFolder } from '../support/server.ts';

let dataDir: string;
before(async () => {
  dataDir = await mkdtemp(join(tmpdir(), 'errand-first-start-'));
});
after(() => removeDataFolder(dataDir));

test('a second start in the same folder says the port is taken, and the first goes on', async (t) => {
  const first = await start();
  t.after(() => first.kill9());
  const second = await startService({
    env: { ERRAND_DATA_DIR: dataDir, PORT: String(first.port) },
    awaitReady: false,
  });
  assert.equal(await exitOf(second.child), 1);
  assert.match(second.output(), new RegExp(`${first.port}`));
  assert.match(second.output(), /is taken; set PORT/);
  const id = await submit(first);
  assert.equal(await first.stop('SIGINT'), 0);
  assert.deepEqual(await findSurvivor(join(dataDir, 'postgres')), { kind: 'none' });

  const third = await start();
  t.after(() => third.kill9());
  assert.equal(await statusOf(third, id), 200, 'a job of the first run is known to the next');
  const lock = await findSurvivor(join(dataDir, 'postgres'));
  assert.ok(lock.kind === 'running');
  await third.kill9();
  if (process.platform === 'linux')
    assert.ok(await isGone(lock.lock.pid, 5_000), 'postgres follows a killed service');

  const fourth = await start();
  t.after(() => fourth.kill9());
  assert.equal(await statusOf(fourth, id), 200, 'and to the one after a kill -9');
  assert.equal(await fourth.stop(), 0);
});

function start(): Promise<Service> {
  return startService({ env: { ERRAND_DATA_DIR: dataDir } });
}

async function submit({ url }: Service): Promise<string> {
  const answer = await fetch(`${url}/v1/jobs`, {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify({ type: 'nobody-serves-this', payload: { a: 1 } }),
  });
  assert.equal(answer.status, 202);
  return ((await answer.json()) as { id: string }).id;
}

async function statusOf({ url }: Service, id: string): Promise<number> {
  const answer = await fetch(`${url}/v1/jobs/${id}`);
  await answer.body?.cancel();
  return answer.status;
}
