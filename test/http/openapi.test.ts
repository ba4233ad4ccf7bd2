// The OpenAPI document against the program: it is the committed one, it lists what there is and nothing else, its references
// resolve, and what the server answers to good and bad requests is what it says.

import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { Ajv2020 } from 'ajv/dist/2020.js';
import fc from 'fast-check';
import { readConfig } from '../../src/config.ts';
import { EventBus } from '../../src/events.ts';
import { buildApp } from '../../src/http/app.ts';
import { openapiDocument } from '../../src/http/openapi.ts';
import { FakeJobs } from '../support/fake-actions.ts';
import { type Header, inParallel, send, serve, type WireAnswer } from '../support/serve.ts';

interface Operation {
  operationId: string;
  summary: string;
  tags: string[];
  parameters?: { in: string; name: string; description?: string }[];
  requestBody?: { required: boolean; content: Record<string, { schema: object }> };
  responses: Record<
    string,
    { description: string; headers?: object; content?: Record<string, { schema: object }> }
  >;
}

interface Document {
  openapi: string;
  tags: { name: string }[];
  paths: Record<string, Record<string, Operation>>;
  components: { schemas: Record<string, object> };
}

const document = (await openapiDocument()) as Document;
const operations = Object.entries(document.paths).flatMap(([path, methods]) =>
  Object.entries(methods).map(([method, operation]) => ({ path, method: method.toUpperCase(), operation })),
);

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
    if (method !== 'HEAD') routes.push(`${method} ${url.replaceAll(/:(\w+)/g, '{$1}')}`);
  });
  await app.ready();
  const documented = operations.map(({ method, path }) => `${method} ${path}`);
  assert.deepEqual(documented.sort(), routes.sort());
});

test('every operation says what it is, which errors it has, and nothing twice', () => {
  const known = new Set(document.tags.map(({ name }) => name));
  for (const { method, path, operation } of operations) {
    const what = `${method} ${path}`;
    assert.match(operation.operationId, /^[a-z][A-Za-z]+$/, what);
    assert.match(operation.summary, /^[A-Z][^.]+$/, what);
    assert.ok(operation.tags.length === 1 && known.has(operation.tags[0] as string), what);
    assert.ok(
      Object.keys(operation.responses).some((status) => /^[23]/.test(status)),
      what,
    );
    for (const status of ['400', '408', '414', '417', '431', '500', '503']) {
      assert.ok(operation.responses[status]?.content?.['application/problem+json'], `${what} ${status}`);
    }
    for (const [status, { description, content = {} }] of Object.entries(operation.responses)) {
      assert.ok(description.length > 5, `${what} ${status}`);
      if (/^[45]/.test(status)) assert.ok('application/problem+json' in content, `${what} ${status}`);
    }
    const parameters = (operation.parameters ?? []).map((one) => `${one.in} ${one.name}`);
    assert.equal(new Set(parameters).size, parameters.length, what);
    const inPath = [...path.matchAll(/\{(\w+)\}/g)].map(([, name]) => `path ${name}`);
    assert.deepEqual(
      parameters.filter((one) => one.startsWith('path ')),
      inPath,
      what,
    );
    assert.ok(
      (operation.parameters ?? []).every(({ description }) => description),
      what,
    );
  }
  const ids = operations.map(({ operation }) => operation.operationId);
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
  const inputs = operations.flatMap(({ operation }) => {
    const schema = operation.requestBody?.content['application/json']?.schema ?? {};
    const $ref = '$ref' in schema ? String(schema.$ref) : '';
    return $ref === '' ? [] : [$ref.split('/').at(-1) as string];
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

const everywhere = new Set(
  'date connection keep-alive content-type content-length cache-control x-content-type-options'.split(' '),
);
const ajv = new Ajv2020({ strict: false, validateFormats: false });
ajv.addSchema({ $id: 'doc', ...document });

/** Fails unless the document foresees this answer: status, headers, type and body. */
function expectForeseen(path: string, method: string, answer: WireAnswer): void {
  const what = `${method} ${path} => ${answer.status} ${answer.body.slice(0, 200)}`;
  const response = document.paths[path]?.[method.toLowerCase()]?.responses[answer.status];
  assert.ok(response, `${what}: no such status`);
  const headers = new Set(Object.keys(response.headers ?? {}).map((name) => name.toLowerCase()));
  for (const name of Object.keys(answer.headers)) {
    assert.ok(everywhere.has(name) || headers.has(name), `${what}: header ${name}`);
  }
  if (answer.body === '') return;
  const type = (answer.headers['content-type'] as string).split(';')[0] as string;
  const media = response.content?.[type];
  assert.ok(media, `${what}: type ${type}`);
  if (!type.endsWith('json')) return;
  const pointer = `/paths/${escaped(path)}/${method.toLowerCase()}/responses/${answer.status}/content/${escaped(type)}/schema`;
  const validate = ajv.getSchema(`doc#${encodeURI(pointer)}`);
  assert.ok(validate, pointer);
  assert.ok(validate(JSON.parse(answer.body)), `${what}: ${ajv.errorsText(validate.errors)}`);
}

const escaped = (step: string) => step.replaceAll('~', '~0').replaceAll('/', '~1');

const anything = fc.oneof(
  fc.constantFrom(
    null,
    true,
    '',
    'a',
    'emails',
    0,
    1,
    5,
    9,
    60,
    -1,
    1.5,
    1e9,
    '2030-01-01T00:00:00Z',
    'x\u0000',
  ),
  fc.constantFrom(
    [],
    ['a'],
    {},
    { strategy: 'fixed' },
    { base_seconds: 1 },
    'cancel',
    '/made',
    'https://a.example/b',
  ),
  fc.jsonValue({ maxDepth: 3 }),
);

const members = [
  ...'queue type payload priority run_at delay_seconds expires_at max_attempts backoff timeout_seconds'.split(
    ' ',
  ),
  ...'on_timeout tags worker queues types limit lease_seconds result created class message'.split(' '),
  ...['retry_after_seconds', 'unknown', '__proto__'],
];

const someBody = fc.oneof(
  { weight: 6, arbitrary: fc.dictionary(fc.constantFrom(...members), anything, { maxKeys: 5 }) },
  { weight: 6, arbitrary: fc.record({ type: fc.constantFrom('a', 'quick'), payload: fc.jsonValue() }) },
  { weight: 2, arbitrary: fc.constantFrom({}, undefined) },
  { weight: 2, arbitrary: fc.jsonValue() },
);

const someHeaders = fc.array(
  fc.constantFrom<Header>(
    ['Expect', '200-ok'],
    ['Expect', '201-created'],
    ['Expect', '202-accepted'],
    ['Errand-Expect', '204-no-content'],
    ['Expect', 'bogus'],
    ['Prefer', 'wait=1'],
    ['Prefer', 'respond-async'],
    ['Prefer', 'return=minimal'],
    ['Idempotency-Key', 'one'],
    ['Idempotency-Key', ''],
    ['If-None-Match', '*'],
    ['If-Match', '"x"'],
    ['If-Match', '*'],
    ['Content-Encoding', 'gzip'],
    ['X-Request-Id', 'a.b'],
    ['X-Request-Id', 'a b'],
  ),
  { maxLength: 2 },
);

test('whatever is asked, the answer is one the document foresees, and never a fault of the server', async () => {
  const { port, jobs, errors } = await serve({
    env: { ERRAND_WAIT_DEFAULT_SECONDS: '0.1', ERRAND_WAIT_CAP_SECONDS: '0.1' },
  });
  jobs.scripts.set('quick', (id) => jobs.succeed(id, '[1]', Number(id) % 2 ? '/made' : null));
  const ids = [
    jobs.add({ type: 'b' }),
    jobs.add({ type: 'b', state: 'succeeded' }, '1', '{"x":1}'),
    jobs.add({ type: 'b', state: 'dead', class: 'timeout', source: 'worker', error: 'late' }),
    '999999',
    '7',
    'no',
  ];
  jobs.gone = 7;
  const someId = fc.oneof(fc.constantFrom(...ids), fc.integer({ min: 1_001, max: 1_400 }).map(String));
  const someRequest = fc.tuple(fc.constantFrom(...operations), someId, someBody, someHeaders, fc.boolean());
  const requests = fc.sample(someRequest, { numRuns: 2_000, seed: 20_26 });
  const statuses = await inParallel(
    requests.map(([{ path, method }, id, body, headers, asks]) => async () => {
      const lease = jobs.jobs.get(id)?.lease ?? `lse_${id}`;
      const filled = path
        .replace('/leases/{id}', `/leases/${lease}`)
        .replace('{id}', id)
        .replace('{slug}', asks ? 'internal' : 'nope');
      const answer = await send(port, {
        method,
        path: asks && path === '/v1/jobs/{id}' ? `${filled}?include=payload` : filled,
        headers: body === undefined ? headers : [['Content-Type', 'application/json'], ...headers],
        body: body === undefined ? '' : JSON.stringify(body),
      });
      expectForeseen(path, method, answer);
      return answer.status;
    }),
  );
  assert.deepEqual(errors, []);
  const seen = [...new Set(statuses)].sort();
  assert.deepEqual(
    seen,
    [200, 201, 202, 204, 303, 304, 400, 404, 409, 410, 412, 415, 417, 422],
    'all were met',
  );
});
