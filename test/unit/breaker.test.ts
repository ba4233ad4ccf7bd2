// A Postgres that is away is asked for a connection about once a second, by whichever pool, and let in again by the first.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import net from 'node:net';
import { after, before, test } from 'node:test';
import { breaker } from '../../src/store/breaker.ts';
import { DatabaseLost, openPool } from '../../src/store/db.ts';
import { sql } from '../../src/store/sql.ts';

const one = sql<{ n: number }>`select 1 n`;
let server: net.Server;
let attempts = 0;
let hangs = false;

before(async () => {
  server = net.createServer((socket) => {
    attempts++;
    if (!hangs) socket.destroy();
    socket.on('error', () => {});
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
});
after(() => server.close());

function pools(now: () => number) {
  const { port } = server.address() as net.AddressInfo;
  const way = {
    url: `postgres://a:b@127.0.0.1:${port}/c`,
    pooled: true,
    settings: { statement_timeout: '1000' },
  };
  const shared = breaker(now, () => 0.5);
  return ['a', 'b'].map((name) => openPool({ name, max: 10, way, breaker: shared, onError: () => {} }));
}

const refused = (error: unknown) => error instanceof DatabaseLost && !error.sent;

test('of many that ask while no connection can be made one is let through each second or so, all pools together', async () => {
  let now = 0;
  const both = pools(() => now);
  const ask = () =>
    Promise.all(
      both.flatMap((pool) => [pool.one(one), pool.one(one)].map((asked) => assert.rejects(asked, refused))),
    );
  attempts = 0;
  await ask();
  assert.equal(attempts, 4, 'those that asked before anything was known');
  for (let n = 0; n < 50; n++) await ask();
  assert.equal(attempts, 4);
  now = 1_249;
  await ask();
  assert.equal(attempts, 4, 'tried again before its time');
  now = 1_251;
  await ask();
  await ask();
  assert.equal(attempts, 5);
});

test('one connection that could not be made keeps nobody from trying', async () => {
  const [pool] = pools(() => 0);
  assert.ok(pool);
  attempts = 0;
  for (let n = 0; n < 5; n++) await assert.rejects(pool.one(one), refused);
  assert.equal(attempts, 2);
});

test('who asks while an attempt hangs is refused at once', async () => {
  let now = 0;
  const [pool] = pools(() => now);
  assert.ok(pool);
  await assert.rejects(pool.one(one), refused);
  await assert.rejects(pool.one(one), refused);
  now = 2_000;
  hangs = true;
  const hanging = assert.rejects(pool.one(one), refused);
  const began = performance.now();
  for (let n = 0; n < 20; n++) await assert.rejects(pool.one(one), refused);
  assert.ok(performance.now() - began < 1_000);
  await hanging;
  hangs = false;
});
