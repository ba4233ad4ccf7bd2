// Reads request bodies: JSON alone, with payload and result kept as the text they were sent as.
// Invariants: nothing is decompressed; the raw bytes stay at hand for the fingerprint of an idempotent request; payload
// and result obey their own limit, the rest of the body a small one.
// Next room: validate.ts checks what was read.
import { Buffer } from 'node:buffer';
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify';
import fp from 'fastify-plugin';
import { type Envelope, type EnvelopeLimits, parseEnvelope, parseValue, RawJson } from '../domain/json.ts';
import { Problem } from '../domain/problem.ts';
import { mergePatchType, unsupportedMedia } from './problem.ts';

declare module 'fastify' {
  interface FastifyRequest {
    /** The body as it was sent; undefined where there was none. See `bytesOf`. */
    rawBody: Buffer | undefined;
  }
}

/** The body of a request as it was sent; empty where there was none. */
export function bytesOf({ rawBody }: FastifyRequest): Buffer {
  return rawBody ?? nothing;
}

const nothing = Buffer.alloc(0);

export interface BodyOptions {
  /** Largest payload or result, in bytes. */
  payloadLimit: number;
}

/** What a body may hold besides its payload or result, in bytes. */
export const envelope_bytes = 64 * 1024;

/** Most items of a call that takes many, and its largest body, in bytes. */
export const most_items = 1_000;
export const many_bytes = 8 * 1024 * 1024;

const one: EnvelopeLimits = {
  opaque: new Set(['payload', 'result', 'progress', 'checkpoint']),
  // A failure that cannot be told as it came would cost the worker its lease.
  prose: new Set(['message']),
  maxEnvelopeDepth: 16,
  maxPayloadDepth: 64,
  maxKeys: 1_000,
};

const mediaType = 'application/json';

/** Reads JSON bodies and refuses all others. */
export const bodies = fp<BodyOptions>(
  async (app, { payloadLimit }) => {
    app.decorateRequest('rawBody');
    app.removeAllContentTypeParsers();

    // After negotiate.ts has said how the request was understood, before a byte of the body is read.
    app.addHook('onRoute', (route) => {
      if (bodied.has(String(route.method))) {
        route.onRequest = [...[route.onRequest ?? []].flat(), refuseEncoded];
      }
    });

    app.addContentTypeParser(mediaType, { parseAs: 'buffer' }, reading(one, payloadLimit));
    // RFC 7396; what a patch may say is JSON like any other.
    app.addContentTypeParser(mergePatchType, { parseAs: 'buffer' }, patching(reading(one, payloadLimit)));
  },
  { name: 'errand-bodies', dependencies: ['errand-context'] },
);

/** In this scope bodies hold many: `items` names the array whose members are envelopes like single ones. */
export function readMany(scope: FastifyInstance, items: string, payloadLimit: number): void {
  const limits = { ...one, items, maxKeys: 32 * most_items };
  scope.removeContentTypeParser(mediaType);
  scope.addContentTypeParser(mediaType, { parseAs: 'buffer' }, reading(limits, payloadLimit));
}

/** In this scope one member of a body, named `within`, is an envelope like a single one; so is that of a patch. */
export function readWithin(scope: FastifyInstance, within: string, payloadLimit: number): void {
  const limits = { ...one, items: within };
  for (const type of [mediaType, mergePatchType]) scope.removeContentTypeParser(type);
  scope.addContentTypeParser(mediaType, { parseAs: 'buffer' }, reading(limits, payloadLimit));
  scope.addContentTypeParser(mergePatchType, { parseAs: 'buffer' }, patching(reading(limits, payloadLimit)));
}

/** In this scope a body is one JSON value, whatever it is, kept as it was sent. */
export function readValue(scope: FastifyInstance): void {
  scope.removeContentTypeParser(mediaType);
  scope.addContentTypeParser(mediaType, { parseAs: 'buffer' }, (request, body: Buffer, done) => {
    refuseCharset(request);
    request.rawBody = body;
    done(null, parseValue(body, one.maxPayloadDepth));
  });
}

/** In this scope bodies are kept as they come, whatever they are: the payload itself. */
export function readAnything(scope: FastifyInstance): void {
  scope.removeAllContentTypeParsers();
  scope.addContentTypeParser('*', { parseAs: 'buffer' }, (request, body: Buffer, done) => {
    request.rawBody = body;
    done(null, body);
  });
}

const bodied: ReadonlySet<string> = new Set(['POST', 'PUT', 'PATCH']);

type Reading = ReturnType<typeof reading>;

/** Reads a patch, where one is asked for. */
function patching(read: Reading): Reading {
  return (request, body, done) => {
    if (request.method !== 'PATCH') {
      throw unsupportedMedia(`the content-type is ${mergePatchType}; send application/json`);
    }
    read(request, body, done);
  };
}

function reading(limits: EnvelopeLimits, payloadLimit: number) {
  return (request: FastifyRequest, body: Buffer, done: (error: Error | null, body?: unknown) => void) => {
    refuseCharset(request);
    request.rawBody = body;
    const envelope = parseEnvelope(body, limits);
    if (body.length > payloadLimit) refuseLargeIn(envelope, limits, payloadLimit);
    done(null, envelope);
  };
}

function refuseEncoded(request: FastifyRequest, _reply: FastifyReply, done: (error?: Error) => void): void {
  const encoding = request.headers['content-encoding'];
  if (encoding === undefined || /^identity$/i.test(encoding)) done();
  else done(unsupportedMedia('the body has a content-encoding; send it as it is', identityOnly));
}

const identityOnly = { 'accept-encoding': 'identity' };

const charsetPattern = /;\s*charset\s*=\s*"?([^";\s]*)/i;

// JSON is UTF-8 (RFC 8259 section 8.1): another charset, even if declared in error, would change what the text says.
function refuseCharset(request: FastifyRequest): void {
  const type = request.headers['content-type'] as string;
  if (type.length === mediaType.length) return;
  const charset = charsetPattern.exec(type)?.[1];
  if (charset === undefined || /^utf-?8$/i.test(charset)) return;
  throw unsupportedMedia('the charset of the body is not utf-8; encode it as UTF-8');
}

function refuseLargeIn(envelope: Envelope, { opaque, items }: EnvelopeLimits, limit: number): void {
  for (const member of opaque) refuseLarge(`#/${member}`, envelope[member], limit);
  const many = items === undefined ? undefined : envelope[items];
  if (items !== undefined && many !== null && typeof many === 'object' && !Array.isArray(many)) {
    for (const member of opaque) refuseLarge(`#/${items}/${member}`, (many as Envelope)[member], limit);
  }
  if (!Array.isArray(many)) return;
  many.forEach((item: Envelope | null, i) => {
    for (const member of opaque) refuseLarge(`#/${items}/${i}/${member}`, item?.[member], limit);
  });
}

/** Refuses a value that has more bytes than it may. */
export function refuseLarge(pointer: string, value: unknown, limit: number): void {
  if (!(value instanceof RawJson) || value.bytes <= limit) return;
  const detail = `has ${value.bytes} bytes, more than the limit of ${limit}`;
  throw new Problem('payload-too-large', {
    detail: `${pointer} ${detail}; send a reference to large data instead`,
    errors: [{ pointer, code: 'too_large', detail }],
  });
}
