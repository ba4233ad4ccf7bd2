// The plan of a hot statement is made once for a connection, often while tables are empty, and kept. What looks cheap then,
// because nothing is in it, may be read from end to end for each job an hour later.
import assert from 'node:assert/strict';
import { readdirSync } from 'node:fs';
import { after, before, test } from 'node:test';
import pg from 'pg';
import { fixedPlans, startupOptions } from '../../src/store/session.ts';
import type { Statement } from '../../src/store/sql.ts';
import { cloneDatabase, type TestDatabase } from '../support/postgres.ts';

let database: TestDatabase;
let client: pg.Client;

before(async () => {
  database = await cloneDatabase();
  client = new pg.Client({ connectionString: database.url, options: startupOptions(fixedPlans) });
  client.on('error', () => {});
  await client.connect();
});

after(async () => {
  await client.end().catch(() => {});
  await database.drop();
});

interface Node {
  'Node Type': string;
  'Relation Name'?: string;
  'Index Name'?: string;
  'Index Cond'?: string;
  Plans?: Node[];
}

for (const empty of ['new', 'vacuumed while empty'] as const) {
  test(`no hot statement reads a table from end to end, planned when tables are ${empty}`, async (t) => {
    const { rows } = await client.query<{ server_version_num: string }>('show server_version_num');
    if (Number(rows[0]?.server_version_num) < 160_000) return t.skip('generic_plan came with PostgreSQL 16');
    if (empty !== 'new') await client.query('vacuum analyze');
    const first = await firstColumns();
    const faults: string[] = [];
    let met = 0;
    for (const { name, text } of await hotStatements()) {
      const explained = await client.query(`explain (generic_plan, format json) ${text}`);
      for (const { node, limited } of scansOf(explained.rows[0]['QUERY PLAN'][0].Plan)) {
        const { 'Index Name': index = '', 'Index Cond': cond } = node;
        const column = first.get(index);
        if (column === undefined && !grows.test(node['Relation Name'] ?? '')) continue;
        met++;
        // Without a condition an index is read in its order, so something must stop it.
        const isBounded = cond === undefined ? limited : new RegExp(`\\b${column}\\b`).test(cond);
        if (!isBounded) faults.push(`${name}: ${node['Node Type']} ${index} ${cond ?? ''}`);
      }
    }
    assert.deepEqual(faults, []);
    assert.ok(met > 100, `only ${met} scans met`);
  });
}

/** Tables that have a row for a job, or for a block or a lease of them. */
const grows =
  /^(job|outcome)_\d+$|^(block|lease|later|place|expiring|idem|tag|progress|successor|dead_letter)$/;

function scansOf(node: Node, limited = false): { node: Node; limited: boolean }[] {
  const isLimit = limited || node['Node Type'] === 'Limit';
  const below = (node.Plans ?? []).flatMap((one) => scansOf(one, isLimit));
  // A bitmap heap scan has its condition in the scans of indexes below.
  const isScan = /Scan/.test(node['Node Type']) && node['Node Type'] !== 'Bitmap Heap Scan';
  return isScan ? [{ node, limited: isLimit }, ...below] : below;
}

async function firstColumns(): Promise<Map<string, string>> {
  const { rows } = await client.query<{ index: string; first: string }>(
    `select c.relname index, pg_get_indexdef(c.oid, 1, true) first from pg_class c
     join pg_namespace n on n.oid = c.relnamespace and n.nspname = 'errand' where c.relkind = 'i'`,
  );
  return new Map(rows.map(({ index, first }) => [index, first]));
}

async function hotStatements(): Promise<Statement<unknown>[]> {
  const folder = new URL('../../src/store/', import.meta.url);
  const files = readdirSync(folder).filter((name) => name.endsWith('.ts'));
  const modules = await Promise.all(files.map((file) => import(new URL(file, folder).href)));
  const values = modules.flatMap((module) => Object.values(module as Record<string, unknown>));
  return values.filter(
    (value): value is Statement<unknown> =>
      typeof value === 'object' && value !== null && 'text' in value && 'name' in value,
  );
}
