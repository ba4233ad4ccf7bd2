// The pull workers of examples/ keep one table of promises, whatever language they are written in.
import assert from 'node:assert/strict';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { during } from '../support/bench.ts';
import { cases } from '../support/conformance.ts';
import { cloneDatabase, type TestDatabase } from '../support/postgres.ts';
import { type Service, startService } from '../support/process.ts';
import { exampleFile, scripts } from '../support/pull-programs.ts';

let database: TestDatabase;
let service: Service;
let folder: string;

before(async () => {
  folder = await mkdtemp(join(tmpdir(), 'errand-pull-workers-'));
  database = await cloneDatabase();
  service = await startService({ env: { DATABASE_URL: database.url } });
});

after(async () => {
  await service?.stop();
  await database?.drop();
  await rm(folder, { recursive: true, force: true });
});

/** In the drill "languages" the service is killed under each of them. */
const restarted = 'worker.ts';

describe('the pull workers', { concurrency: true }, () => {
  for (const { skip, ...program } of scripts)
    describe(program.name, { skip, concurrency: 4 }, () => {
      for (const { name, prove } of cases.filter((one) => !one.restarts || program.name === restarted))
        test(name, () => prove({ program, service, databaseUrl: database.url, folder }));
    });
});

const python = scripts.find(({ name }) => name === 'worker.py');

describe('worker.py with a function that misbehaves', { skip: python?.skip ?? 'there is none' }, () => {
  const source = `
from worker import JobFailed, TYPE, Worker

def work(lease):
    if lease.job["payload"] == "message":
        raise JobFailed("a\\0b\\ud800", "permanent")
    return {"set": {1}, "infinite": float("inf"), "next": 1}[lease.job["payload"]]

Worker({TYPE: work}).run()
`;

  test('ends what can be neither sent nor stored for good, and its one slot goes on', async () => {
    const file = join(folder, 'misbehaving.py');
    await writeFile(file, source);
    const program = { name: 'misbehaving.py', words: [python?.words[0] ?? '', file] };
    const env = { SLOTS: '1', PYTHONPATH: exampleFile('') };
    await during(
      { program, service, databaseUrl: database.url, folder },
      { isPlain: true, env },
      async (worker) => {
        for (const [payload, message] of [
          ['"set"', /^the result is not JSON/],
          ['"infinite"', /^the result is not JSON/],
          ['"message"', /^ab\ufffd$/],
        ] as const) {
          const { state, attempt, error } = await worker.end(await worker.submit(payload));
          assert.deepEqual([state, attempt, error?.class], ['dead', 1, 'permanent']);
          assert.match(error?.detail ?? '', message);
        }
        assert.equal((await worker.end(await worker.submit('"next"'))).state, 'succeeded');
      },
    );
  });
});
