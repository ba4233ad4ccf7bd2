// Every exported statement is prepared on the migrated schema: a misspelt column fails here, not at night.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import pg from 'pg';
import type { Statement } from '../../src/store/sql.ts';
import { prepareClock } from '../../src/store/test-clock.ts';
import { cloneDatabase, type TestDatabase } from '../support/postgres.ts';

let database: TestDatabase;
let client: pg.Client;

before(async () => {
  database = await cloneDatabase();
  await prepareClock(database.url, true);
  client = new pg.Client({ connectionString: database.url });
  client.on('error', () => {});
  await client.connect();
});

after(async () => {
  await client.end().catch(() => {});
  await database.drop();
});

const folder = new URL('../../src/store/', import.meta.url);

test('every statement in store/ is valid on the migrated schema', async () => {
  let found = 0;
  for (const file of readdirSync(folder).filter((name) => name.endsWith('.ts'))) {
    const module = (await import(new URL(file, folder).href)) as Record<string, unknown>;
    for (const [name, value] of Object.entries(module)) {
      if (!isStatement(value)) continue;
      found++;
      await assert.doesNotReject(client.query(`prepare s${found} as ${value.text}`), `${file} ${name}`);
    }
  }
  assert.ok(found > 25, `only ${found} statements found`);
});

test('no deciding statement reads a clock of its own', () => {
  // errand.now() is the one clock: a test can move it (test-clock.ts). clock_timestamp() is for locks held across statements.
  for (const file of readdirSync(folder).filter((name) => name !== 'test-clock.ts')) {
    const text = sourceOf(file);
    assert.doesNotMatch(text, /(?<!errand\.|performance\.)\bnow\(\)/i, file);
    assert.doesNotMatch(text, /\bcurrent_timestamp\b/i, file);
  }
});

function isStatement(value: unknown): value is Statement<unknown> {
  return typeof value === 'object' && value !== null && 'text' in value && typeof value.text === 'string';
}

function sourceOf(file: string): string {
  return readFileSync(new URL(file, folder), 'utf8');
}
