// Proves of the chart what needs no renderer: the schema knows every value and nothing else, the defaults and the example
// values are allowed by it, and versions and lists say what the program says.
import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { parse } from 'yaml';
import { chart, valueFaults } from '../support/helm.ts';

interface Schema {
  $ref?: string;
  type?: string;
  properties?: Record<string, Schema>;
  additionalProperties?: boolean | Schema;
  definitions?: Record<string, Schema>;
}

const read = (path: string) => readFileSync(join(chart, path), 'utf8');
const yaml = (path: string) => parse(read(path), { version: '1.1' });
const schema = JSON.parse(read('values.schema.json')) as Schema;

function resolved(one: Schema): Schema {
  const name = one.$ref?.replace('#/definitions/', '');
  return name === undefined ? one : (schema.definitions?.[name] ?? {});
}

/** Paths of values, down to what the schema leaves open; `open` names objects that take names of any kind. */
function differences(at: Schema, value: unknown, place: string): string[] {
  const { properties, additionalProperties } = resolved(at);
  if (properties === undefined) return [];
  const members = Object.keys(value as object);
  return [
    ...(additionalProperties === false ? [] : [`${place} takes unknown names`]),
    ...members.filter((name) => !(name in properties)).map((name) => `${place}.${name} is not in the schema`),
    ...Object.entries(properties).flatMap(([name, inner]) => {
      // Helm adds this one.
      if (place === '' && name === 'global') return [];
      if (!members.includes(name)) return [`${place}.${name} has no default`];
      return differences(inner, (value as Record<string, unknown>)[name], `${place}.${name}`);
    }),
  ];
}

test('every value has a default, every default is in the schema, and unknown names are refused at every depth', () => {
  assert.deepEqual(differences(schema, yaml('values.yaml'), ''), []);
});

test('a value without a default, one the schema lacks and an open object are noticed', () => {
  const planted = { properties: { a: { properties: {} }, b: {} }, additionalProperties: false };
  assert.deepEqual(differences(planted, { a: {}, c: 1 }, ''), [
    '.c is not in the schema',
    '.a takes unknown names',
    '.b has no default',
  ]);
});

test('the defaults and the example values are allowed by the schema', async () => {
  const files = readdirSync(join(chart, 'ci')).filter((file) => file.endsWith('-values.yaml'));
  assert.deepEqual(files.sort(), [
    'all-off-values.yaml',
    'default-values.yaml',
    'production-values.yaml',
    'split-roles-values.yaml',
  ]);
  for (const file of ['values.yaml', ...files.map((name) => `ci/${name}`)])
    assert.deepEqual(await valueFaults(yaml(file)), [], file);
});

test('the chart has the version of the program', () => {
  const { version } = JSON.parse(readFileSync(join(chart, '../../package.json'), 'utf8'));
  const named = yaml('Chart.yaml');
  assert.deepEqual([named.version, named.appVersion], [version, version]);
});
