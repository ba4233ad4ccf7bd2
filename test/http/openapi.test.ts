// The OpenAPI document: it is valid, the committed one, complete, and well written; and the judge that holds every answer of
// the other tests against it (contract.ts) notices what does not fit.

import assert from 'node:assert/strict';
import { readdirSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { Validator } from '@seriousme/openapi-schema-validator';
import { readConfig } from '../../src/config.ts';
import { EventBus } from '../../src/events.ts';
import { buildApp } from '../../src/http/app.ts';
import { openapiDocument } from '../../src/http/openapi.ts';
import { Contract, type Document, type Exchange, operationsOf } from '../support/contract.ts';
import { FakeJobs } from '../support/fake-actions.ts';

const document = (await openapiDocument()) as Document;
const operations = operationsOf(document);

test('the document is valid OpenAPI 3.1', async () => {
  const validator = new Validator();
  const { valid, errors } = await validator.validate({ ...structuredClone(document) });
  assert.deepEqual([valid, validator.version, errors], [true, '3.1', undefined]);
});

test('openapi/openapi.json is what the program prints; "npm run openapi" writes it', () => {
  const committed = readFileSync(new URL('../../openapi/openapi.json', import.meta.url), 'utf8');
  assert.equal(committed, `${JSON.stringify(document, null, 2)}\n`);
});

test('the document is the same every time', async () => {
  assert.equal(JSON.stringify(await openapiDocument()), JSON.stringify(document));
});

test('every route is in the document, and the document has no other', async () => {
  const app = buildApp({
    config: readConfig({}),
    actions: new FakeJobs().actions,
    events: new EventBus(),
    metrics: { contentType: '', text: async () => '', observeHttp: () => {} },
    health: {} as Parameters<typeof buildApp>[0]['health'],
  });
  const routes: string[] = [];
  app.addHook('onRoute', ({ method, url }) => {
    if (method !== 'HEAD' && !url.startsWith('/docs'))
      routes.push(`${method} ${url.replaceAll(/:(\w+)/g, '{$1}')}`);
  });
  await app.ready();
  const documented = operations.map(({ method, path }) => `${method} ${path}`);
  assert.deepEqual(documented.sort(), routes.sort());
});

test('every operation says what it is, which errors it has, and nothing twice', () => {
  const known = new Set(document.tags.map(({ name }) => name));
  for (const { method, path, object } of operations) {
    const what = `${method} ${path}`;
    assert.match(object.operationId, /^[a-z][A-Za-z]+$/, what);
    assert.match(object.summary, /^[A-Z][^.]+$/, what);
    assert.ok(object.tags.length === 1 && known.has(object.tags[0] as string), what);
    assert.ok(
      Object.keys(object.responses).some((status) => /^[23]/.test(status)),
      what,
    );
    for (const status of ['400', '408', '414', '417', '431', '500', '503']) {
      assert.ok(object.responses[status]?.content?.['application/problem+json'], `${what} ${status}`);
    }
    for (const [status, { description, content = {} }] of Object.entries(object.responses)) {
      assert.ok(description.length > 5, `${what} ${status}`);
      if (/^[45]/.test(status)) assert.ok('application/problem+json' in content, `${what} ${status}`);
    }
    const parameters = (object.parameters ?? []).map((one) => `${one.in} ${one.name}`);
    assert.equal(new Set(parameters).size, parameters.length, what);
    const inPath = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => `path ${name}`);
    assert.deepEqual(
      parameters.filter((one) => one.startsWith('path ')),
      inPath,
      what,
    );
    assert.ok(
      (object.parameters ?? []).every(({ description }) => description),
      what,
    );
  }
  const ids = operations.map(({ object }) => object.operationId);
  assert.equal(new Set(ids).size, ids.length);
});

test('every reference resolves, every schema is used, and none is named for one direction only', () => {
  const refs = [...JSON.stringify(document).matchAll(/"\$ref":"([^"]+)"/g)].map(([, ref]) => ref as string);
  const named = Object.keys(document.components.schemas);
  assert.deepEqual([...new Set(refs)].sort(), named.map((name) => `#/components/schemas/${name}`).sort());
  assert.ok(!named.some((name) => name.endsWith('Input')));
});

test('inputs refuse unknown members, outputs may grow', () => {
  const { schemas } = document.components;
  const inputs = operations.flatMap(({ object }) => {
    const schema = object.requestBody?.content['application/json']?.schema ?? {};
    const $ref = '$ref' in schema ? String(schema.$ref) : '';
    return $ref === '' || $ref.endsWith('/JsonValue') ? [] : [$ref.split('/').at(-1) as string];
  });
  assert.ok(inputs.length >= 6);
  for (const name of inputs) {
    assert.equal((schemas[name] as { additionalProperties?: unknown }).additionalProperties, false, name);
  }
  for (const name of ['Job', 'JobStatus', 'Lease', 'LeaseList', 'Problem', 'AttemptEnd']) {
    assert.ok(!JSON.stringify(schemas[name]).includes('"additionalProperties":false'), name);
  }
});

test('what is no rule but an artefact of the generator is not in the document', () => {
  const text = JSON.stringify(document);
  assert.ok(!text.includes(String(Number.MAX_SAFE_INTEGER)));
  assert.ok(!/"format":"date-time","pattern"/.test(text));
  assert.ok(!text.includes('x-optional-body'));
  const required = (path: string) => document.paths[path]?.post?.requestBody?.required;
  assert.equal(required('/v1/jobs'), true);
  assert.equal(required('/v1/jobs/{id}/cancel'), false);
  assert.equal(required('/v1/leases/{id}/complete'), false);
});

test('every request header that is read and every response header that is set is in the document', () => {
  const folder = new URL('../../src/http/', import.meta.url);
  const files = readdirSync(folder).filter((name) => name.endsWith('.ts'));
  const source = files.map((name) => readFileSync(new URL(name, folder), 'utf8')).join('\n');
  const named = (...patterns: RegExp[]) => {
    const found = patterns.flatMap((pattern) => [...source.matchAll(pattern)].map(([, name = '']) => name));
    return [...new Set(found)].filter((name) => !ofHttp.has(name));
  };
  const read = named(
    /headerOf\(\w+, '([a-z-]+)'\)/g,
    /headers\['([a-z-]+)'\]/g,
    /headers\.(expect|prefer)\b/g,
  );
  const set = named(/\.header\('([a-z-]+)'/g, /headers: \{ '?([a-z-]+)'?:/g);
  assert.ok(read.length >= 6 && set.length >= 10, `${read} ${set}`);
  const parameters = operations.flatMap(({ object }) => (object.parameters ?? []).map(({ name }) => name));
  const responses = operations.flatMap(({ object }) => Object.values(object.responses));
  const headers = responses.flatMap(({ headers = {} }) => Object.keys(headers));
  const missing = (names: string[], known: string[]) => {
    const all = new Set(known.map((name) => name.toLowerCase()));
    return names.filter((name) => !all.has(name));
  };
  assert.deepEqual(missing(read, [...parameters, 'X-Request-Id']), []);
  assert.deepEqual(missing(set, [...headers, 'Allow', 'Accept-Patch']), []);
  assert.match(document.info.description, /X-Request-Id/);
});

// What HTTP says of every message, for the parser and the connection.
const ofHttp = new Set(
  'host transfer-encoding content-type content-length content-encoding accept-encoding cache-control connection x-content-type-options'.split(
    ' ',
  ),
);

const contract = new Contract(document);
const status = { id: '1', state: 'queued', terminal: false, attempt: 0, cancel_requested: false };
const good: Exchange = {
  method: 'GET',
  target: '/v1/jobs/1/status',
  status: 200,
  headers: { 'content-type': 'application/json', etag: '"q0.0"', 'retry-after': 1 },
  body: JSON.stringify({ ...status, result: null, created: null, error: null, progress: null }),
};
const lost = { type: '/problems/lease-lost', title: 'Lost', status: 409, detail: 'gone', retryable: false };
const problem = (code: string) => JSON.stringify({ ...lost, code, request_id: 'a' });

test('the judge of answers lets pass what is documented', () => {
  const error = { headers: { 'content-type': 'application/problem+json' }, body: problem('not-found') };
  for (const exchange of [
    good,
    { ...good, headers: { ...good.headers, 'Content-Type': 'application/json; charset=utf-8' } },
    { ...good, method: 'HEAD', body: '' },
    { ...good, ...error, status: 404 },
    { ...good, ...error, status: 404, target: '/nowhere' },
    { ...good, status: 204, method: 'OPTIONS', headers: { allow: 'GET, HEAD' }, body: '' },
  ]) {
    assert.deepEqual(contract.faultsOf(exchange), []);
  }
});

const planted: readonly (readonly [string, Partial<Exchange>, RegExp])[] = [
  ['a status', { status: 201 }, /no such status/],
  ['a header', { headers: { ...good.headers, 'x-secret': '1' } }, /no such header: x-secret/],
  ['a number', { headers: { ...good.headers, 'retry-after': 'soon' } }, /not a whole number/],
  ['a media type', { headers: { 'content-type': 'text/html' } }, /no such media type: text\/html/],
  ['no media type', { headers: {} }, /no such media type: none/],
  ['no JSON', { body: '{' }, /not JSON/],
  ['a missing member', { body: JSON.stringify(status) }, /must have required property 'result'/],
  ['a wrong type', { body: good.body?.replace('0', '"0"') ?? '' }, /attempt must be integer/],
  ['a body to HEAD', { method: 'HEAD' }, /HEAD has a body/],
  ['a path that is not there', { target: '/v2/jobs' }, /no such status/],
  [
    'a code',
    { status: 404, headers: { 'content-type': 'application/problem+json' }, body: problem('lease-lost') },
    /code lease-lost is not listed/,
  ],
];

for (const [what, over, fault] of planted) {
  test(`the judge of answers notices what is not documented: ${what}`, () => {
    assert.match(contract.faultsOf({ ...good, ...over }).join('\n'), fault);
  });
}
