// Why this room exists: tests of outages are worth nothing when the outage does not happen; so the tools are tested.
// Next room: test/support/redis.ts and children.ts.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect } from 'node:net';
import { createInterface } from 'node:readline';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { isGone } from '../../src/embedded/survivor.ts';
import { exitOf, spawnTied } from '../support/children.ts';
import { startService } from '../support/process.ts';
import { startRedis } from '../support/redis.ts';

const CHILDREN = fileURLToPath(new URL('../support/children.ts', import.meta.url));

test('a Redis server is real, dies when killed and comes back empty on the same port', async (t) => {
  const redis = await startRedis();
  t.after(() => redis.stop());
  assert.equal(await ask(redis.port, 'SET greeting hello'), '+OK');
  assert.equal(await ask(redis.port, 'EVAL "return 41 + 1" 0'), ':42');
  await redis.kill();
  await assert.rejects(ask(redis.port, 'PING'), /ECONNREFUSED/);
  await redis.restart();
  assert.equal(await ask(redis.port, 'GET greeting'), '$-1');
  await redis.stop();
  await redis.stop();
  await assert.rejects(ask(redis.port, 'PING'), /ECONNREFUSED/);
});

test('a frozen Redis accepts connections and answers only after the thaw', async (t) => {
  const redis = await startRedis();
  t.after(() => redis.stop());
  redis.freeze();
  let answered = false;
  const answer = ask(redis.port, 'PING').then((line) => {
    answered = true;
    return line;
  });
  // Nothing can be awaited that does not happen; a server that is not frozen answers within a millisecond.
  await new Promise((resolve) => setTimeout(resolve, 150));
  assert.equal(answered, false);
  redis.thaw();
  assert.equal(await answer, '+PONG');
});

test('a frozen Redis can be stopped', async () => {
  const redis = await startRedis();
  redis.freeze();
  await redis.stop();
  await assert.rejects(ask(redis.port, 'PING'), /ECONNREFUSED/);
});

test('what a test starts dies with the test, also at kill -9', {
  skip: process.platform !== 'linux',
}, async () => {
  const script = `import { spawnTied } from ${JSON.stringify(CHILDREN)};
    console.log(spawnTied('sleep', ['60'], { stdio: 'ignore' }).pid);`;
  for (const signal of ['SIGKILL', 'SIGTERM'] as const) {
    const parent = spawnTied(process.execPath, ['--input-type=module', '-e', script], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [pid] = await once(createInterface({ input: parent.stdout! }), 'line');
    parent.kill(signal);
    await exitOf(parent);
    assert.ok(await isGone(Number(pid), 5_000), `gone after ${signal}`);
  }
});

test('a service that does not start tells why at once', async () => {
  await assert.rejects(
    startService({ env: { ERRAND_ROLES: 'juggler', DATABASE_URL: 'postgres://127.0.0.1:1/none' } }),
    /the service ended with exit code 1; its last output:.*ERRAND_ROLES/s,
  );
});

/** Sends one inline command and returns the first line of the answer. */
async function ask(port: number, command: string): Promise<string> {
  const socket = connect(port, '127.0.0.1');
  try {
    await once(socket, 'connect');
    socket.write(`${command}\r\n`);
    const [chunk] = await once(socket, 'data');
    return String(chunk).split('\r\n')[0]!;
  } finally {
    socket.destroy();
  }
}
