// Why this room exists: the OpenAPI document is a promise about every answer, so tests hold every answer against it: status,
// headers, media type, body and, of an error, its code.
// Invariant: what a route says that its document does not foresee is a fault, whoever asked and whatever was tested.
// Next room: serve.ts, which watches a server by it; fuzz.ts, which asks by it.
import type { IncomingMessage, Server, ServerResponse } from 'node:http';
import type { Socket } from 'node:net';
import { Ajv2020, type ValidateFunction } from 'ajv/dist/2020.js';

/** A JSON schema, as far as a test looks into it. */
export type Schema = { readonly [keyword: string]: unknown };

type Media = Readonly<Record<string, { readonly schema: Schema }>>;

export interface Parameter {
  readonly in: 'path' | 'query' | 'header';
  readonly name: string;
  readonly description?: string;
  readonly required?: boolean;
  readonly schema: Schema;
}

export interface ResponseObject {
  readonly description: string;
  readonly headers?: Readonly<Record<string, { readonly schema: Schema; readonly description?: string }>>;
  readonly content?: Media;
}

export interface OperationObject {
  readonly operationId: string;
  readonly summary: string;
  readonly tags: readonly string[];
  readonly parameters?: readonly Parameter[];
  readonly requestBody?: { readonly required?: boolean; readonly content: Media };
  readonly responses: Readonly<Record<string, ResponseObject>>;
}

/** An OpenAPI document, as far as a test looks into it. */
export interface Document {
  readonly openapi: string;
  readonly info: { readonly description: string };
  readonly tags: readonly { readonly name: string }[];
  readonly paths: Readonly<Record<string, Readonly<Record<string, OperationObject>>>>;
  readonly components: { readonly schemas: Readonly<Record<string, Schema>> };
}

/** A method on a path. */
export interface Operation {
  readonly method: string;
  readonly path: string;
  readonly object: OperationObject;
}

/** One answer, and what was asked. */
export interface Exchange {
  method: string;
  /** Path and query. */
  target: string;
  status: number;
  headers: Readonly<Record<string, unknown>>;
  /** Null where it was not read to its end. */
  body: string | null;
}

/** The operations of a document. */
export function operationsOf(document: Document): Operation[] {
  return Object.entries(document.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, object]) => ({ path, method: method.toUpperCase(), object })),
  );
}

// What HTTP itself and every answer of ours has; docs/contract.md, Conventions.
const everywhere = new Set(
  'date connection keep-alive transfer-encoding content-type content-length cache-control x-content-type-options x-request-id'.split(
    ' ',
  ),
);
const unrouted: ResponseObject = {
  description: '`not-found` `method-not-allowed` and what is refused before there is a route',
  headers: Object.fromEntries(
    ['Allow', 'Accept-Post', 'Accept-Patch', 'Errand-Mode', 'Retry-After'].map((name) => [
      name,
      { schema: {} },
    ]),
  ),
  content: { 'application/problem+json': { schema: { $ref: '#/components/schemas/Problem' } } },
};
const unroutedStatuses = [400, 404, 405, 408, 413, 414, 417, 431, 503];
// The page that shows the document is made of files, which it does not describe.
const undescribed = /^\/docs(\/|$|\?)/;

/** Judges answers by a document. */
export class Contract {
  readonly operations: readonly Operation[];
  readonly #ajv = new Ajv2020({ strict: false, logger: false });
  readonly #validators = new Map<Schema, ValidateFunction>();
  readonly #templates: readonly { readonly path: string; readonly pattern: RegExp }[];

  constructor(document: Document) {
    this.operations = operationsOf(document);
    this.#ajv.addFormat('date-time', /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)$/);
    this.#ajv.addSchema({ $id: 'document', components: document.components });
    // A path in full comes before one with a parameter in its place.
    this.#templates = Object.keys(document.paths)
      .sort((a, b) => a.replaceAll('{', '~').localeCompare(b.replaceAll('{', '~'), 'en'))
      .sort((a, b) => parametersIn(a) - parametersIn(b))
      .map((path) => ({ path, pattern: patternOf(path) }));
  }

  /** What the document does not foresee in an answer; empty where it foresees all of it. */
  faultsOf(exchange: Exchange): string[] {
    const { method, target, status, body } = exchange;
    if (undescribed.test(target)) return [];
    const operation = this.#operationAt(method, target);
    const response = operation === undefined ? outside(exchange) : operation.object.responses[status];
    const where = `${method} ${operation?.path ?? target.slice(0, 200)} => ${status}`;
    if (response === undefined) return [`${where}: no such status; ${(body ?? '').slice(0, 300)}`];
    return [...headerFaults(exchange, response), ...this.#bodyFaults(exchange, response)].map(
      (fault) => `${where}: ${fault}`,
    );
  }

  /** Tells whether a value is one of this schema, and if not why. */
  mismatch(schema: Schema, value: unknown): string | null {
    const known = this.#validators.get(schema);
    const validate = known ?? this.#ajv.compile(absolute(schema));
    this.#validators.set(schema, validate);
    return validate(value) ? null : this.#ajv.errorsText(validate.errors);
  }

  #operationAt(method: string, target: string): Operation | undefined {
    const path = target.split('?', 1)[0] as string;
    const asked = method === 'HEAD' ? 'GET' : method;
    const found = this.#templates
      .filter(({ pattern }) => pattern.test(path))
      .flatMap(
        (template) => this.operations.find((one) => one.path === template.path && one.method === asked) ?? [],
      );
    return found[0];
  }

  #bodyFaults({ method, body, headers }: Exchange, response: ResponseObject): string[] {
    if (body === null || body === '') return [];
    if (method === 'HEAD') return ['an answer to HEAD has a body'];
    const type = mediaTypeOf(headers);
    const media = mediaIn(response.content ?? {}, type);
    if (media === undefined) return [`no such media type: ${type || 'none'}`];
    if (!/[/+]json$/.test(type)) return [];
    const value = parsed(body);
    if (value === undefined) return ['the body is not JSON'];
    const mismatch = this.mismatch(media.schema, value);
    return [
      ...(mismatch === null ? [] : [`${mismatch} in ${body.slice(0, 300)}`]),
      ...(type.includes('problem') ? codeFaults(value, response) : []),
    ];
  }
}

function absolute(schema: Schema): object {
  return JSON.parse(JSON.stringify(schema).replaceAll('"#/components/', '"document#/components/')) as object;
}

function parametersIn(path: string): number {
  return path.split('{').length;
}

function patternOf(path: string): RegExp {
  const quoted = path.replace(/[.*+?^$()|[\]\\]/g, '\\$&');
  return new RegExp(`^${quoted.replaceAll(/\{\w+\}/g, '[^/]*')}$`);
}

function outside({ method, status, body }: Exchange): ResponseObject | undefined {
  if (unroutedStatuses.includes(status)) return unrouted;
  const isOptions = method === 'OPTIONS' && status === 204 && body === '';
  return isOptions ? unrouted : undefined;
}

function headerFaults({ headers, status }: Exchange, response: ResponseObject): string[] {
  const documented = new Map(
    Object.entries(response.headers ?? {}).map(([name, { schema }]) => [name.toLowerCase(), schema]),
  );
  return Object.entries(headers).flatMap(([name, value]) => {
    const schema = documented.get(name.toLowerCase());
    if (schema === undefined) return everywhere.has(name.toLowerCase()) ? [] : [`no such header: ${name}`];
    const isWrong = schema.type === 'integer' && !/^\d+$/.test(String(value));
    return isWrong ? [`header ${name} is not a whole number but ${value} (${status})`] : [];
  });
}

/** The media type of an answer or a request, without parameters. */
export function mediaTypeOf(headers: Readonly<Record<string, unknown>>): string {
  const value = Object.entries(headers).find(([name]) => name.toLowerCase() === 'content-type')?.[1];
  return (
    String(value ?? '')
      .split(';', 1)[0]
      ?.trim()
      .toLowerCase() ?? ''
  );
}

function mediaIn(content: Media, type: string): { readonly schema: Schema } | undefined {
  return content[type] ?? content[`${type.split('/', 1)[0]}/*`] ?? content['*/*'];
}

// The description of an error lists its codes: route.ts writes it from the registry of problems.
function codeFaults(value: unknown, { description }: ResponseObject): string[] {
  const { code } = value as { code: string };
  const isListed = description.includes(`\`${code}\``) || description === unrouted.description;
  return isListed ? [] : [`the code ${code} is not listed for this status`];
}

function parsed(text: string): unknown {
  try {
    return JSON.parse(text) as unknown;
  } catch {
    return undefined;
  }
}

/** Shows every answer of a server that reaches its end, as it is sent. */
export function watchAnswers(server: Server, see: (exchange: Exchange) => void): void {
  const watch = (request: IncomingMessage, response: ServerResponse) => {
    const chunks: Buffer[] = [];
    let given: object = {};
    const { write, end, writeHead } = response;
    const keep = (chunk: unknown) => {
      if (typeof chunk === 'string' || chunk instanceof Uint8Array) chunks.push(Buffer.from(chunk));
    };
    Object.assign(response, {
      writeHead(...words: Parameters<typeof writeHead>) {
        given = headersIn(words.find((word) => typeof word === 'object') ?? {});
        return writeHead.apply(response, words);
      },
      write(...words: Parameters<typeof write>) {
        keep(words[0]);
        return write.apply(response, words);
      },
      end(...words: Parameters<typeof end>) {
        keep(words[0]);
        return end.apply(response, words);
      },
    });
    response.once('finish', () =>
      see({
        method: request.method ?? '',
        target: request.url ?? '',
        status: response.statusCode,
        headers: { ...response.getHeaders(), ...given },
        body: request.method === 'HEAD' ? '' : Buffer.concat(chunks).toString(),
      }),
    );
  };
  for (const event of ['request', 'checkContinue', 'checkExpectation']) server.prependListener(event, watch);
  server.on('connection', (socket: Socket) => watchRaw(socket, see));
}

/** Headers as node takes them: an object, or names and values in turn. */
function headersIn(given: object): object {
  if (!Array.isArray(given)) return given;
  const pairs: [string, unknown][] = [];
  for (let i = 0; i < given.length; i += 2) pairs.push([given[i] as string, given[i + 1]]);
  return Object.fromEntries(pairs);
}

// What could not be read as a request is answered on the bare socket.
function watchRaw(socket: Socket, see: (exchange: Exchange) => void): void {
  const { end } = socket;
  socket.end = ((...words: Parameters<typeof end>) => {
    const [text] = words as unknown[];
    if (typeof text === 'string' && text.startsWith('HTTP/')) see(rawExchange(text));
    return end.apply(socket, words);
  }) as typeof end;
}

function rawExchange(text: string): Exchange {
  const [head = '', body = ''] = text.split('\r\n\r\n');
  const [first = '', ...lines] = head.split('\r\n');
  const headers = Object.fromEntries(lines.map((line) => line.split(': ', 2) as [string, string]));
  return { method: '?', target: '?', status: Number(first.split(' ')[1]), headers, body };
}
