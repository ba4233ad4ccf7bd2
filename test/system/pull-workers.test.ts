// The pull workers of examples/ keep one table of promises, whatever language they are written in.
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { cases } from '../support/conformance.ts';
import { cloneDatabase, type TestDatabase } from '../support/postgres.ts';
import { type Service, startService } from '../support/process.ts';
import { scripts } from '../support/pull-programs.ts';

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

describe('the pull workers', { concurrency: true }, () => {
  for (const { skip, ...program } of scripts)
    describe(program.name, { skip, concurrency: 4 }, () => {
      for (const { name, prove } of cases)
        test(name, () => prove({ program, service, databaseUrl: database.url, folder }));
    });
});
