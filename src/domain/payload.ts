// Payloads of any media type: kept as text where they are text, as base64 where they are not, and given back as the bytes
// that came.
// Invariant: bytesOf(payloadOf(bytes)) are the bytes.
// Next room: store/inserts.ts keeps it; http/leases.ts and roles/worker/ give it back.
import { Buffer, isUtf8 } from 'node:buffer';

/** A payload as it is kept; without `content_type` it is JSON text. */
export interface KeptPayload {
  text: string;
  content_type?: string;
  payload_base64?: true;
}

/** Makes bytes into what is kept. JSON (`application/json`, or nothing at all) stays its own text. */
export function payloadOf(bytes: Buffer, mediaType: string | null): KeptPayload {
  if (bytes.length === 0) return { text: 'null' };
  const isJson = mediaType !== null && /^application\/json\s*(;|$)/i.test(mediaType);
  if (isJson) return { text: bytes.toString('utf8') };
  const content_type = mediaType ?? 'application/octet-stream';
  // Postgres text holds no NUL.
  if (isUtf8(bytes) && !bytes.includes(0)) return { text: bytes.toString('utf8'), content_type };
  return { text: bytes.toString('base64'), content_type, payload_base64: true };
}

/** The bytes of a kept payload. */
export function bytesOf(payload: string, options: { readonly payload_base64?: boolean } | null): Buffer {
  return Buffer.from(payload, options?.payload_base64 === true ? 'base64' : 'utf8');
}

/** What a handler gets of a payload: the value of JSON, the text of any other text, else bytes. */
export function readPayload(
  payload: string,
  options: { readonly content_type?: string; readonly payload_base64?: boolean } | null,
): unknown {
  if (options?.content_type === undefined) return JSON.parse(payload);
  return options.payload_base64 === true ? bytesOf(payload, options) : payload;
}

/** How a payload is shown in JSON: the member it stands in and its JSON text; beside it stands `content_type`. */
export function shownPayload(
  payload: string,
  options: { readonly content_type?: string; readonly payload_base64?: boolean } | null,
): { member: 'payload' | 'payload_base64'; text: string } {
  if (options?.content_type === undefined) return { member: 'payload', text: payload };
  const member = options.payload_base64 === true ? 'payload_base64' : 'payload';
  return { member, text: JSON.stringify(payload) };
}
