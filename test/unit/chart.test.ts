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
  required?: string[];
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
  const { properties, additionalProperties, required } = resolved(at);
  if (properties === undefined) return [];
  const members = Object.keys(value as object);
  return [
    ...(additionalProperties === false ? [] : [`${place} takes unknown names`]),
    ...members.filter((name) => !(name in properties)).map((name) => `${place}.${name} is not in the schema`),
    ...Object.entries(properties).flatMap(([name, inner]) => {
      // Helm adds this one.
      if (place === '' && name === 'global') return [];
      if (!members.includes(name)) return [`${place}.${name} has no default`];
      return [
        ...(required?.includes(name) ? [] : [`null takes ${place}.${name} away`]),
        ...differences(inner, (value as Record<string, unknown>)[name], `${place}.${name}`),
      ];
    }),
  ];
}

test('every value has a default that stays, and unknown names are refused at every depth', () => {
  assert.deepEqual(differences(schema, yaml('values.yaml'), ''), []);
});

test('a value without a default or that null takes away, one the schema lacks and an open object are noticed', () => {
  const planted = {
    properties: { a: { properties: {} }, b: {} },
    additionalProperties: false,
    required: ['b'],
  };
  assert.deepEqual(differences(planted, { a: {}, c: 1 }, ''), [
    '.c is not in the schema',
    'null takes .a away',
    '.a takes unknown names',
    '.b has no default',
  ]);
});

/** Values over their defaults, member by member, as helm holds them against the schema. */
function over(defaults: unknown, more: unknown): unknown {
  const isMap = (one: unknown) => typeof one === 'object' && one !== null && !Array.isArray(one);
  if (!isMap(defaults) || !isMap(more)) return more;
  const merged = new Map(Object.entries(defaults as object));
  for (const [name, value] of Object.entries(more as object))
    merged.set(name, merged.has(name) ? over(merged.get(name), value) : value);
  return Object.fromEntries(merged);
}

test('the defaults and the example values are allowed by the schema', async () => {
  const files = readdirSync(join(chart, 'ci')).filter((file) => file.endsWith('-values.yaml'));
  assert.deepEqual(files.sort(), [
    'all-off-values.yaml',
    'default-values.yaml',
    'production-values.yaml',
    'split-roles-values.yaml',
  ]);
  assert.deepEqual(await valueFaults(yaml('values.yaml')), []);
  for (const file of files)
    assert.deepEqual(await valueFaults(over(yaml('values.yaml'), yaml(`ci/${file}`))), [], file);
});

test('names of Secrets, hosts and networks are taken in every form they have, and nothing else is', async () => {
  const faults = async (more: object) => (await valueFaults({ ...yaml('values.yaml'), ...more })).length;
  const { ingress, targets } = yaml('values.yaml');
  for (const host of ['errand.example.com', '*.example.com', 'localhost', ''])
    assert.equal(await faults({ ingress: { ...ingress, host } }), 0, host);
  for (const host of ['*', 'Errand.example', 'errand.example:80', 'errand.example/v1', '-errand', 'a..b'])
    assert.equal(await faults({ ingress: { ...ingress, host } }), 1, host);
  for (const tlsSecret of ['postgres://a:b@c/d', 'name=value', 'a b', 'Upper', 'a'.repeat(254)])
    assert.equal(await faults({ ingress: { ...ingress, tlsSecret } }), 1, tlsSecret);
  for (const cidr of [
    '10.0.0.0/8',
    '192.168.255.1/32',
    '0.0.0.0/0',
    'fd00::/8',
    '::/0',
    'fd12:3456:789a::1/128',
  ])
    assert.equal(await faults({ targets: { ...targets, private: [cidr] } }), 0, cidr);
  for (const cidr of ['10.0.0.0', '10.0.0.0/33', '10.0.0.256/32', '10.0/16', 'fd00::/129', 'loopback', '/8'])
    assert.equal(await faults({ targets: { ...targets, private: [cidr] } }), 1, cidr);
});

test('the chart has the version of the program', () => {
  const { version } = JSON.parse(readFileSync(join(chart, '../../package.json'), 'utf8'));
  const named = yaml('Chart.yaml');
  assert.deepEqual([named.version, named.appVersion], [version, version]);
});
