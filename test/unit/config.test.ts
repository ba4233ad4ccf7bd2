// Settings: all faults at once, none of them a surprise later.
import assert from 'node:assert/strict';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { ConfigError, readConfig } from '../../src/config.ts';
import { loopbackToo, publicOnly } from '../../src/domain/address.ts';

test('starts with nothing set', () => {
  const config = readConfig({});
  assert.equal(config.PORT, 8080);
  assert.equal(config.HOST, '127.0.0.1');
  assert.deepEqual(config.ERRAND_ROLES, ['api', 'worker', 'dispatcher']);
  assert.equal(config.drainDelaySeconds, 0);
});

test('tells every fault at once, by name, without the values of urls', () => {
  assert.throws(
    () =>
      readConfig({
        PORT: 'x',
        DATABASE_URL: 'mysql://user:secret@h',
        ERRAND_ROLES: 'api,boss',
        ERRAND_LEASE_SECOND: '3',
      }),
    (error: ConfigError) => {
      assert.ok(error instanceof ConfigError);
      assert.equal(error.faults.length, 4);
      for (const name of [
        'PORT "x"',
        'DATABASE_URL:',
        'ERRAND_ROLES',
        'ERRAND_LEASE_SECOND is not a setting',
      ]) {
        assert.ok(error.message.includes(name), `${name} is not in ${error.message}`);
      }
      assert.ok(!error.message.includes('secret'));
      return true;
    },
  );
});

test('refuses to listen beyond loopback unless the missing authentication is spelt out', () => {
  assert.throws(() => readConfig({ HOST: '0.0.0.0' }), /ERRAND_AUTH=off/);
  assert.equal(readConfig({ HOST: '0.0.0.0', ERRAND_AUTH: 'off' }).drainDelaySeconds, 5);
});

test('refuses the clock of tests in production', () => {
  assert.equal(readConfig({}).ERRAND_TEST_CLOCK, false);
  assert.equal(readConfig({ ERRAND_TEST_CLOCK: 'true', NODE_ENV: 'test' }).ERRAND_TEST_CLOCK, true);
  assert.equal(readConfig({ ERRAND_TEST_CLOCK: 'false', NODE_ENV: 'production' }).ERRAND_TEST_CLOCK, false);
  assert.throws(() => readConfig({ ERRAND_TEST_CLOCK: '1' }), /ERRAND_TEST_CLOCK "1": must be true or false/);
  assert.throws(
    () => readConfig({ ERRAND_TEST_CLOCK: 'true', NODE_ENV: 'production' }),
    (error: ConfigError) =>
      error.faults.length === 1 &&
      error.faults[0] === 'ERRAND_TEST_CLOCK is for tests and NODE_ENV is "production"; unset one of the two',
  );
});

test('lets the variable of the clients pass', () => {
  assert.equal(readConfig({ ERRAND_URL: 'http://127.0.0.1:8080' }).PORT, 8080);
});

test('reads a value from the file that NAME_FILE names', () => {
  const file = join(mkdtempSync(join(tmpdir(), 'errand-config-')), 'url');
  writeFileSync(file, 'postgres://h/db\n');
  assert.equal(readConfig({ DATABASE_URL_FILE: file }).DATABASE_URL, 'postgres://h/db');
  assert.throws(() => readConfig({ DATABASE_URL_FILE: `${file}.gone` }), /cannot be read/);
});

test('targets on loopback are allowed where the server itself listens there, and nowhere else by default', () => {
  assert.deepEqual(readConfig({}).privateTargets, loopbackToo);
  assert.deepEqual(readConfig({ HOST: '0.0.0.0', ERRAND_AUTH: 'off' }).privateTargets, publicOnly);
  assert.deepEqual(readConfig({ ERRAND_PRIVATE_TARGETS: 'none' }).privateTargets, publicOnly);
  assert.throws(
    () => readConfig({ ERRAND_PRIVATE_TARGETS: 'all' }),
    /ERRAND_PRIVATE_TARGETS "all": "all" is neither/,
  );
});

test('signing secrets are a list, and a fault in one does not show it', () => {
  const [one, two] = [1, 2].map((n) => Buffer.alloc(32, n));
  const spelt = [one, two].map((bytes) => `whsec_${bytes?.toString('base64')}`);
  assert.deepEqual(readConfig({ ERRAND_SIGNING_SECRETS: spelt.join(', ') }).ERRAND_SIGNING_SECRETS, [
    one,
    two,
  ]);
  assert.throws(
    () => readConfig({ ERRAND_SIGNING_SECRETS: 'whsec_private' }),
    (error: ConfigError) =>
      /ERRAND_SIGNING_SECRETS: a signing secret must be/.test(error.message) &&
      !/private/.test(error.message),
  );
});

test('a pooler needs a way around it', () => {
  assert.throws(
    () => readConfig({ ERRAND_POOLER: 'transaction' }),
    (error: ConfigError) => {
      assert.deepEqual(error.faults, [
        'DATABASE_URL: needed where ERRAND_POOLER is set',
        'ERRAND_DIRECT_DATABASE_URL: needed where ERRAND_POOLER is set',
      ]);
      return true;
    },
  );
  assert.throws(() => readConfig({ ERRAND_POOLER: 'session' }), /ERRAND_POOLER "session"/);
});

test('threads are shared among the processes, and the clock of tests moves one process only', () => {
  const threads = readConfig({}).handlerThreads;
  assert.equal(readConfig({}).ERRAND_PROCESSES, 1);
  assert.equal(readConfig({ ERRAND_PROCESSES: '2' }).handlerThreads, Math.max(1, Math.floor(threads / 2)));
  assert.equal(readConfig({ ERRAND_PROCESSES: '64' }).handlerThreads, Math.max(1, Math.floor(threads / 64)));
  for (const wrong of ['0', '65', 'auto', '1.5'])
    assert.throws(() => readConfig({ ERRAND_PROCESSES: wrong }), /ERRAND_PROCESSES "/, wrong);
  assert.throws(
    () => readConfig({ ERRAND_PROCESSES: '2', ERRAND_TEST_CLOCK: 'true' }),
    /ERRAND_PROCESSES "2": the clock of tests moves one process; unset it or ERRAND_TEST_CLOCK/,
  );
});
