// `errand schedules apply` and the schedules a service is started with: each as often as one likes, by several at once, and
// all of a file or nothing of it.
import assert from 'node:assert/strict';
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Readable } from 'node:stream';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import pg from 'pg';
import { calling } from '../support/call.ts';
import { exitOf, spawnTied } from '../support/children.ts';
import { startErrand, type TestErrand } from '../support/errand.ts';
import { cloneDatabase } from '../support/postgres.ts';
import { neutralEnvironment, startService } from '../support/process.ts';

const main = fileURLToPath(new URL('../../src/main.ts', import.meta.url));
const example = fileURLToPath(new URL('../../examples/schedules.yaml', import.meta.url));
let errand: TestErrand;
let client: pg.Client;
let folder: string;

before(async () => {
  // Nobody fires meanwhile.
  errand = await startErrand({ env: { ERRAND_ROLES: 'api' } });
  client = new pg.Client({ connectionString: errand.databaseUrl });
  await client.connect();
  folder = await mkdtemp(join(tmpdir(), 'errand-schedules-'));
});
after(async () => {
  await client.end();
  await errand.stop();
  await rm(folder, { recursive: true });
});

const { get, post } = calling(() => errand.url);

async function apply(file: string, ...more: string[]) {
  const args = [main, 'schedules', 'apply', '-f', file, '--url', errand.url, ...more];
  const child = spawnTied(process.execPath, args, { env: neutralEnvironment(process.env) });
  const [out, err, code] = await Promise.all([textOf(child.stdout), textOf(child.stderr), exitOf(child)]);
  return { code, out, err };
}

async function textOf(stream: Readable | null): Promise<string> {
  return Buffer.concat((await stream?.toArray()) ?? []).toString();
}

async function written(text: string): Promise<string> {
  const file = join(folder, 'schedules.yaml');
  await writeFile(file, text);
  return file;
}

const rows = async () => (await client.query('select *, xmin::text from errand.schedule order by name')).rows;

test('a file is applied as often as one likes: created, then unchanged, and a watermark is never reset', async () => {
  const dry = await apply(example, '--dry-run');
  assert.deepEqual([dry.code, dry.err], [0, '']);
  assert.equal(dry.out, 'nightly-report created\nmeter-readings created\nmonth-end created\n');
  assert.deepEqual(await rows(), []);
  assert.equal((await apply(example)).out, dry.out);
  const kept = await rows();
  const again = await apply(example);
  assert.equal(again.out, 'nightly-report unchanged\nmeter-readings unchanged\nmonth-end unchanged\n');
  assert.deepEqual(await rows(), kept);
});

test('what has changed in the file is changed, what another has changed is put right, the rest is left alone', async () => {
  await post('/v1/schedules/month-end/pause', { reason: 'audit' });
  const text = (await readFile(example, 'utf8')).replace('every_seconds: 900', 'every_seconds: 600');
  const file = await written(text);
  const changed = 'nightly-report unchanged\nmeter-readings changed\nmonth-end unchanged\n';
  const before = await rows();
  assert.equal((await apply(file, '--dry-run')).out, changed);
  assert.deepEqual(await rows(), before);
  assert.equal((await apply(file)).out, changed);
  const { every_seconds } = (await get('/v1/schedules/meter-readings')).json;
  assert.equal(every_seconds, 600);
  assert.equal((await get('/v1/schedules/month-end')).json.state, 'paused');
});

test('an old file can be applied again, and says which of its schedules has no slot left', async () => {
  const file = await written(
    'schedules:\n- name: old\n  every_seconds: 60\n  ends_at: 2020-01-01T00:00:00Z\n  job: {type: a}\n',
  );
  assert.equal((await apply(file)).out, 'old created, has no slot left\n');
  assert.equal((await apply(file)).out, 'old unchanged, has no slot left\n');
  assert.equal((await get('/v1/schedules/old')).json.state, 'ended');
  const { slots, is_last } = (await get('/v1/schedules/old/preview')).json;
  assert.deepEqual([slots, is_last], [[], true]);
  assert.equal((await get('/v1/schedules/old/preview?from=2019-12-31T00:00:00Z')).json.is_last, false);
});

test('a fault is told with its line and pointer, and nothing of the file is applied', async () => {
  const file = await written(
    'schedules:\n- name: fine\n  every_seconds: 60\n  job: {type: a}\n- name: odd\n  cron: 0 2 * * *\n' +
      '  timezone: Mars/Olympus\n  job: {type: a}\n',
  );
  const { code, out, err } = await apply(file);
  assert.deepEqual([code, out], [1, '']);
  assert.match(err, /schedules\.yaml:7: schedule "odd": #\/timezone .*Mars\/Olympus/);
  assert.doesNotMatch(err, /at .*\.ts:\d+/, 'a stack trace is no explanation');
  assert.equal((await get('/v1/schedules/fine')).status, 404);
});

test('a file that is not there and a service that does not answer are told in one line', async () => {
  const absent = await apply(join(folder, 'absent.yaml'));
  assert.deepEqual([absent.code, absent.err.trim().split('\n').length], [1, 1]);
  assert.match(absent.err, /cannot be read/);
  const nobody = await apply(example, '--url', 'http://127.0.0.1:1');
  assert.deepEqual([nobody.code, nobody.err.trim().split('\n').length], [1, 1]);
  assert.match(nobody.err, /no service answers at http:\/\/127\.0\.0\.1:1/);
});

test('services define the schedules of their settings before they answer, several at once and once', async () => {
  const database = await cloneDatabase();
  const env = { ERRAND_SCHEDULES_FILE: example };
  const start = () => startErrand({ databaseUrl: database.url, env });
  const replicas = await Promise.all([start(), start(), start()]);
  try {
    const one = calling(() => (replicas[0] as TestErrand).url);
    const { items } = (await one.get('/v1/schedules')).json;
    assert.deepEqual(
      items.map(({ name }: { name: string }) => name),
      ['meter-readings', 'month-end', 'nightly-report'],
    );
    const versions = new pg.Client({ connectionString: database.url });
    await versions.connect();
    assert.deepEqual((await versions.query('select distinct version from errand.schedule')).rows, [
      { version: 1 },
    ]);
    await versions.end();
    const fourth = await startService({ env: { DATABASE_URL: database.url, ...env } });
    assert.match(fourth.output(), /"3 schedules: 0 created, 0 changed, 3 unchanged"/);
    await fourth.stop('SIGINT');
  } finally {
    await Promise.all(replicas.map((replica) => replica.stop()));
    await database.drop();
  }
});

test('a fault in the schedules of the settings refuses the start with the reason', async () => {
  const database = await cloneDatabase();
  const env = { ERRAND_SCHEDULES: 'schedules:\n- name: a\n  cron: 61 * * * *\n  job: {type: a}\n' };
  try {
    await assert.rejects(
      startErrand({ databaseUrl: database.url, env }),
      /ERRAND_SCHEDULES:3: schedule "a": #\/cron .*minute/,
    );
  } finally {
    await database.drop();
  }
});
