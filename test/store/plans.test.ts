// Plans are made once for a connection, often while tables are empty, and kept. An index that looks fit for a look-up then,
// because nothing is in it, may be read from end to end for each job an hour later.
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { after, before, test } from 'node:test';
import pg from 'pg';
import { fixedPlans } from '../../src/store/db.ts';
import type { Statement } from '../../src/store/sql.ts';
import { cloneDatabase, type TestDatabase } from '../support/postgres.ts';

let database: TestDatabase;
let client: pg.Client;

before(async () => {
  database = await cloneDatabase();
  client = new pg.Client({ connectionString: database.url, options: fixedPlans });
  client.on('error', () => {});
  await client.connect();
});

after(async () => {
  await client.end().catch(() => {});
  await database.drop();
});

interface Node {
  'Node Type': string;
  'Index Name'?: string;
  'Index Cond'?: string;
  Plans?: Node[];
}

for (const empty of ['new', 'vacuumed while empty'] as const) {
  test(`no statement enters an index but by its first column, planned when tables are ${empty}`, async (t) => {
    const { rows } = await client.query<{ server_version_num: string }>('show server_version_num');
    if (Number(rows[0]?.server_version_num) < 160_000) return t.skip('generic_plan came with PostgreSQL 16');
    if (empty !== 'new') await client.query('vacuum analyze');
    const first = await firstColumns();
    const passedOver: string[] = [];
    let met = 0;
    for (const [name, { text }] of await statements()) {
      const explained = await client.query(`explain (generic_plan, format json) ${text}`);
      for (const { 'Index Name': index = '', 'Index Cond': cond } of nodesOf(
        explained.rows[0]['QUERY PLAN'][0].Plan,
      )) {
        const column = first.get(index);
        // Without a condition it is read in order, up to a limit.
        if (column === undefined || cond === undefined) continue;
        met++;
        if (!new RegExp(`\\b${column}\\b`).test(cond)) passedOver.push(`${name}: ${index} ${cond}`);
      }
    }
    assert.deepEqual(passedOver, []);
    assert.ok(met > 100, `only ${met} index conditions met`);
  });
}

async function firstColumns(): Promise<Map<string, string>> {
  const { rows } = await client.query<{ index: string; first: string }>(
    `select c.relname index, pg_get_indexdef(c.oid, 1, true) first from pg_class c
     join pg_namespace n on n.oid = c.relnamespace and n.nspname = 'errand' where c.relkind = 'i'`,
  );
  return new Map(rows.map(({ index, first }) => [index, first]));
}

async function statements(): Promise<[name: string, Statement<unknown>][]> {
  const folder = new URL('../../src/store/', import.meta.url);
  const found: [string, Statement<unknown>][] = [];
  for (const file of readdirSync(folder).filter((name) => name.endsWith('.ts'))) {
    const module = (await import(new URL(file, folder).href)) as Record<string, unknown>;
    for (const [name, value] of Object.entries(module)) {
      if (typeof value !== 'object' || value === null || !('text' in value)) continue;
      // What cannot be explained has no plan.
      if (/^\s*(lock|listen|notify|set)\b/i.test(value.text as string)) continue;
      found.push([`${file} ${name}`, value as Statement<unknown>]);
    }
  }
  return found;
}

function nodesOf(node: Node): Node[] {
  return [node, ...(node.Plans ?? []).flatMap(nodesOf)];
}
