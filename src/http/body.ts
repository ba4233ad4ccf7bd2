// Reads request bodies: JSON alone, with payload and result kept as the text they were sent as.
// Invariants: nothing is decompressed; the raw bytes stay at hand for the fingerprint of an idempotent request; payload
// and result obey their own limit, the rest of the body a small one.
// Next room: validate.ts checks what was read.
import type { Buffer } from 'node:buffer';
import type { FastifyReply, FastifyRequest } from 'fastify';
import fp from 'fastify-plugin';
import { type EnvelopeLimits, parseEnvelope, RawJson } from '../domain/json.ts';
import { Problem } from '../domain/problem.ts';
import { unsupportedMedia } from './problem.ts';

declare module 'fastify' {
  interface FastifyRequest {
    /** The body as it was sent; empty where there was none. */
    rawBody: Buffer;
  }
}

export interface BodyOptions {
  /** Largest payload or result, in bytes. */
  payloadLimit: number;
}

/** What a body may hold besides its payload or result, in bytes. */
export const envelope_bytes = 64 * 1024;

const limits: EnvelopeLimits = {
  opaque: new Set(['payload', 'result']),
  maxEnvelopeDepth: 16,
  maxPayloadDepth: 64,
  maxKeys: 1_000,
};

/** Reads JSON bodies and refuses all others. */
export const bodies = fp<BodyOptions>(
  async (app, { payloadLimit }) => {
    app.decorateRequest('rawBody');
    app.removeAllContentTypeParsers();

    // After negotiate.ts has said how the request was understood, before a byte of the body is read.
    app.addHook('onRoute', (route) => {
      if (route.method === 'POST') route.onRequest = [...[route.onRequest ?? []].flat(), refuseEncoded];
    });

    app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (request, body: Buffer, done) => {
      refuseCharset(request);
      request.rawBody = body;
      const envelope = parseEnvelope(body, limits);
      if (body.length > payloadLimit) {
        for (const member of limits.opaque) refuseLarge(member, envelope[member], payloadLimit);
      }
      done(null, envelope);
    });
  },
  { name: 'errand-bodies', dependencies: ['errand-context'] },
);

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
  if (type.length === 'application/json'.length) return;
  const charset = charsetPattern.exec(type)?.[1];
  if (charset === undefined || /^utf-?8$/i.test(charset)) return;
  throw unsupportedMedia('the charset of the body is not utf-8; encode it as UTF-8');
}

function refuseLarge(member: string, value: unknown, limit: number): void {
  if (!(value instanceof RawJson) || value.bytes <= limit) return;
  const detail = `has ${value.bytes} bytes, more than the limit of ${limit}`;
  throw new Problem('payload-too-large', {
    detail: `${member} ${detail}; send a reference to large data instead`,
    errors: [{ pointer: `#/${member}`, code: 'too_large', detail }],
  });
}
