// Makes the OpenAPI 3.1 document out of the routes: what zod and @fastify/swagger leave out or overdo is set right here.
// Invariants: every header an answer can carry is in it; outputs may grow members without breaking a client, inputs may
// not; nothing is in it that no route refers to.
// Next room: openapi.ts, which prints it.
import swagger from '@fastify/swagger';
import type { FastifySchema } from 'fastify';
import fp from 'fastify-plugin';
import { createJsonSchemaTransform, createJsonSchemaTransformObject } from 'fastify-type-provider-zod';
import { z } from 'zod';
import { type RequestHeader, type ResponseDoc, type Route, requestHeaders, tags } from './route.ts';

type Json = Record<string, unknown>;

const optionalBody = 'x-optional-body';

const zodToJsonConfig = {
  override({ jsonSchema }: { jsonSchema: Json }) {
    if (jsonSchema.format === 'date-time') delete jsonSchema.pattern;
    if (jsonSchema.maximum === Number.MAX_SAFE_INTEGER) delete jsonSchema.maximum;
    if (jsonSchema.minimum === Number.MIN_SAFE_INTEGER) delete jsonSchema.minimum;
  },
};

const transformRoute = createJsonSchemaTransform({ zodToJsonConfig });
const transformAll = createJsonSchemaTransformObject({ zodToJsonConfig });

/** Collects the routes; `app.swagger()` is the document once the app is ready. */
export const documentation = fp(
  async (app) => {
    await app.register(swagger, {
      openapi: {
        openapi: '3.1.0',
        info: {
          title: 'Errand',
          version: '1',
          summary: 'HTTP job control on Postgres.',
          description:
            'POST a job, get 202 and a Location, follow 303 to the result; or demand the answer in the same call. ' +
            'Every error is application/problem+json (RFC 9457); /problems explains each of them. ' +
            'Any request may carry an `X-Request-Id` of its own; every answer has one.',
          license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
        },
        servers: [{ url: '/', description: 'This server.' }],
        tags: Object.entries(tags).map(([name, description]) => ({ name, description })),
      },
      transform: (input) => {
        const { schema } = input;
        if (schema === undefined || schema.hide === true)
          return { schema: { hide: true } as FastifySchema, url: input.url };
        const docs = schema.response as Record<string, ResponseDoc>;
        const output = transformRoute({ ...input, schema: { ...schema, response: bodiesOf(docs) } });
        const config = input.route.config as Route['config'];
        return {
          url: output.url,
          schema: complete(output.schema as Json, schema, docs, config?.headers ?? []),
        };
      },
      transformObject: (input) => settled(transformAll(input) as Json) as ReturnType<typeof transformAll>,
    });
  },
  { name: 'errand-documentation' },
);

// The zod transform knows answers with content and bare schemas; one without a body is the schema of null.
function bodiesOf(docs: Record<string, ResponseDoc>): Json {
  return Object.fromEntries(
    Object.entries(docs).map(([status, doc]) => [status, doc.content === undefined ? z.null() : doc]),
  );
}

function complete(
  output: Json,
  schema: FastifySchema,
  docs: Record<string, ResponseDoc>,
  headers: readonly RequestHeader[],
): FastifySchema {
  const response = output.response as Record<string, Json>;
  for (const [status, { description, headers: sent = {} }] of Object.entries(docs)) {
    const shared = { 'X-Request-Id': { type: 'string', description: 'The id of the request.' } };
    Object.assign(response[status] as Json, { description, headers: { ...shared, ...sent } });
  }
  if (headers.length > 0) {
    const entries = headers.map((name) => [name, { type: 'string', description: requestHeaders[name] }]);
    output.headers = { type: 'object', properties: Object.fromEntries(entries) };
  }
  if (schema.body instanceof z.ZodType && schema.body.safeParse({}).success) output[optionalBody] = true;
  return output as FastifySchema;
}

// What concerns the document as a whole: bodies that may be absent, and the components.
function settled(document: Json): Json {
  for (const operation of operationsOf(document)) {
    if (operation[optionalBody] !== true) continue;
    delete operation[optionalBody];
    (operation.requestBody as Json).required = false;
  }
  const { schemas } = document.components as { schemas: Record<string, Json> };
  for (const [name, schema] of Object.entries(schemas)) if (!name.endsWith('Input')) open(schema);
  const { text, kept } = shortNamed(document, schemas);
  return { ...(JSON.parse(text) as Json), components: { schemas: kept } };
}

function operationsOf(document: Json): Json[] {
  return Object.values(document.paths as Record<string, Record<string, Json>>).flatMap((path) =>
    Object.values(path),
  );
}

/** Lets every object in a schema have more members than are listed. */
function open(schema: unknown): void {
  if (schema === null || typeof schema !== 'object') return;
  if ((schema as Json).additionalProperties === false) delete (schema as Json).additionalProperties;
  for (const part of Object.values(schema)) open(part);
}

// Every schema comes in an input and an output form, `NameInput` and `Name`; where only one is in use, or both are the
// same, it is called `Name`. What nothing refers to goes.
function shortNamed(document: Json, schemas: Record<string, Json>): { text: string; kept: Json } {
  const used = referredFrom({ ...document, components: undefined }, schemas);
  const renamed = new Map<string, string>();
  for (const name of used) {
    const short = name.replace(/Input$/, '');
    const isSame = JSON.stringify(schemas[name]) === JSON.stringify(schemas[short]);
    if (short !== name && (!used.has(short) || isSame)) renamed.set(name, short);
  }
  const rename = (value: unknown): string =>
    JSON.stringify(value).replaceAll(/"#\/components\/schemas\/([^"]+)"/g, (_, name: string) =>
      JSON.stringify(`#/components/schemas/${renamed.get(name) ?? name}`),
    );
  const kept = [...used].map(
    (name) => [renamed.get(name) ?? name, JSON.parse(rename(schemas[name]))] as const,
  );
  return { text: rename(document), kept: Object.fromEntries(kept.sort(([a], [b]) => (a < b ? -1 : 1))) };
}

function referredFrom(part: unknown, schemas: Record<string, Json>, found = new Set<string>()): Set<string> {
  for (const [, name] of JSON.stringify(part).matchAll(/"#\/components\/schemas\/([^"]+)"/g)) {
    if (found.has(name as string)) continue;
    found.add(name as string);
    referredFrom(schemas[name as string], schemas, found);
  }
  return found;
}
