// A push: the request a target is sent for a start of a job, and what its answer means (docs/contract.md, Push targets).
// Guards: nothing a caller writes into a target can pass for something Errand says; an answer that reports success is one,
// whatever its body looks like, unless the body cannot be kept.
// Next room: roles/worker/pusher.ts, which sends it by roles/worker/target.ts.

import { Buffer, isUtf8 } from 'node:buffer';
import { z } from 'zod';
import { readJsonValue } from './json.ts';
import type { JobOptions } from './options.ts';
import { failed, type Verdict } from './outcome.ts';
import { sign } from './signature.ts';
import { least_snooze_seconds, most_snooze_seconds } from './start.ts';

const headerName = z
  .string()
  .regex(/^[A-Za-z][A-Za-z0-9_-]{0,63}$/, 'must be 1 to 64 of A-Z a-z 0-9 _ - and begin with a letter')
  .refine((name) => !isOurs(name.toLowerCase()), {
    message: 'is set by errand or by the connection; leave it out',
  });

const headerValue = z
  .string()
  .regex(
    /^([\x21-\x7e]([\x20-\x7e\t]{0,1022}[\x21-\x7e])?)?$/,
    'must be at most 1,024 visible ASCII characters',
  );

/** Where a job is pushed to, as on the wire. Whether the URL may be called is for `checkTargetUrl` to say. */
export const Target = z
  .strictObject({
    url: z
      .string()
      .max(2_048)
      .meta({ format: 'uri' })
      .describe('An http or https URL; a public one unless the server allows others.'),
    method: z.enum(['POST', 'PUT', 'PATCH']).default('POST'),
    headers: z
      .record(headerName, headerValue)
      .refine((headers) => Object.keys(headers).length <= 20, { message: 'must have at most 20 members' })
      .refine((headers) => new Set(lowerNames(headers)).size === Object.keys(headers).length, {
        message: 'must not hold a name twice; upper and lower case are the same',
      })
      .optional()
      .describe('Up to 20 headers sent along, for example Authorization.'),
  })
  .meta({
    id: 'Target',
    description: 'The URL that is called with the job instead of leasing it to a worker.',
  });

/** What a request tells of the start it is for. */
export interface Pushed {
  readonly job_id: string;
  readonly queue: string;
  readonly type: string;
  readonly attempt: number;
  readonly max_attempts: number;
  readonly epoch: number;
  readonly deadline: Date;
  readonly options: JobOptions | null;
}

/** What a request needs besides; `span_id` is 16 hex digits of chance, of use only to a job that was submitted in a trace. */
export interface Sending {
  readonly lease_id: string;
  readonly body: Buffer;
  readonly now: Date;
  readonly secrets: readonly Buffer[];
  readonly release: string;
  readonly span_id: string | null;
}

/** Writes the headers of a push. */
export function pushHeaders(job: Pushed, sending: Sending): Record<string, string> {
  const timestamp = Math.floor(sending.now.getTime() / 1_000);
  const message = { id: job.job_id, timestamp, body: sending.body };
  return {
    ...job.options?.target?.headers,
    'Content-Type': job.options?.content_type ?? 'application/json',
    'User-Agent': `errand/${sending.release}`,
    // Bytes stay bytes: nothing that comes back is ever unpacked.
    'Accept-Encoding': 'identity',
    'webhook-id': job.job_id,
    'webhook-timestamp': String(timestamp),
    'webhook-signature': sign(message, sending.secrets),
    'Idempotency-Key': `"${job.job_id}"`,
    'Errand-Job-Id': job.job_id,
    'Errand-Queue': job.queue,
    'Errand-Type': job.type,
    'Errand-Attempt': String(job.attempt),
    'Errand-Max-Attempts': String(job.max_attempts),
    'Errand-Epoch': String(job.epoch),
    'Errand-Deadline': job.deadline.toISOString(),
    'Errand-Lease': sending.lease_id,
    ...scheduleHeader(job.options),
    ...traceHeaders(job.options, sending.span_id),
  };
}

/** What came back from a target; header names are in lower case, `body` is null when it was longer than the limit. */
export type TargetAnswer =
  | {
      readonly kind: 'answered';
      readonly status: number;
      readonly headers: Readonly<Record<string, string>>;
      readonly body: Buffer | null;
    }
  | { readonly kind: 'failed'; readonly reason: FailureReason; readonly detail: string };

/** Why there is no answer; `aborted`: the sender was told to stop. */
export type FailureReason = 'address' | 'connect' | 'tls' | 'reset' | 'protocol' | 'too_large' | 'aborted';

/** Says what an answer means; `limit` is that of a result, in bytes. */
export function verdictOf(answer: TargetAnswer, url: string, limit: number, now: Date): Verdict {
  if (answer.kind === 'failed') {
    return failed(isHopeless(answer.reason) ? 'permanent' : 'retryable', answer.detail);
  }
  const { status, headers } = answer;
  if (status < 200 || status > 299) return snoozed(status, headers['errand-snooze']) ?? refusal(answer, now);
  if (status === 202) return { kind: 'handed_over' };
  const created_uri = status === 201 ? createdUri(headers.location, url) : null;
  if (status === 204 || status === 205) return { kind: 'succeeded', result: null, created_uri };
  if (!/^(identity)?$/i.test(headers['content-encoding'] ?? '')) {
    return unusable(status, 'in an encoding that is not undone; answer without content-encoding');
  }
  const result = answer.body === null ? undefined : resultOf(answer.body, headers['content-type'] ?? '');
  if (result === undefined || (result !== null && Buffer.byteLength(result) > limit)) {
    return unusable(status, `with more than the ${limit} bytes of a result; answer with a reference instead`);
  }
  return { kind: 'succeeded', result, created_uri };
}

/** The headers that are not the caller's to choose. */
function isOurs(name: string): boolean {
  return reserved.has(name) || /^(webhook|errand|proxy)-/.test(name);
}

const reserved: ReadonlySet<string> = new Set([
  // Of the connection (RFC 9110 section 7.6.1) and of the framing of the body.
  ...['connection', 'keep-alive', 'te', 'trailer', 'transfer-encoding', 'upgrade', 'http2-settings'],
  ...['host', 'content-length', 'content-encoding', 'expect'],
  ...['content-type', 'accept-encoding', 'user-agent', 'idempotency-key', 'traceparent', 'tracestate'],
]);

function lowerNames(headers: Readonly<Record<string, string>>): string[] {
  return Object.keys(headers).map((name) => name.toLowerCase());
}

/** A structured field (RFC 9651): a string, as a name may begin with a digit, which no token does; the slot is its parameter. */
function scheduleHeader(options: JobOptions | null): Record<string, string> {
  const { schedule } = options ?? {};
  return schedule === undefined ? {} : { 'Errand-Schedule': `"${schedule.name}";slot="${schedule.slot}"` };
}

/** The push is a child of the span that submitted the job (W3C Trace Context). */
function traceHeaders(options: JobOptions | null, span_id: string | null): Record<string, string> {
  if (span_id === null) return {};
  const parent = /^00-([0-9a-f]{32})-[0-9a-f]{16}-([0-9a-f]{2})$/.exec(options?.traceparent ?? '');
  if (parent === null) return {};
  const state = options?.tracestate === undefined ? {} : { tracestate: options.tracestate };
  return { traceparent: `00-${parent[1]}-${span_id}-${parent[2]}`, ...state };
}

// The same request would fare the same for ever.
function isHopeless(reason: FailureReason): boolean {
  return reason === 'address' || reason === 'too_large';
}

/** A target that wants to be asked later, without an attempt being counted. */
function snoozed(http_status: number, wish: string | undefined): Verdict | null {
  const seconds = /^\d{1,9}$/.test(wish?.trim() ?? '') ? Number(wish) : 0;
  if (seconds < least_snooze_seconds) return null;
  return { kind: 'snoozed', delay_ms: Math.min(seconds, most_snooze_seconds) * 1_000, http_status };
}

function refusal(answer: Extract<TargetAnswer, { kind: 'answered' }>, now: Date): Verdict {
  const { status, headers } = answer;
  const wish = headers['errand-retry']?.trim().toLowerCase() ?? '';
  const wished_seconds = /^\d+$/.test(wish) ? Number(wish) : null;
  const told_seconds = retryAfterSeconds(headers['retry-after'], now);
  const busy = status === 429 || (status === 503 && told_seconds !== null);
  const passing = [408, 409, 423, 425].includes(status) || (status >= 500 && status <= 599 && status !== 501);
  const again = wished_seconds !== null || busy || passing;
  const kind = wish === 'never' || !again ? 'permanent' : busy ? 'rate_limited' : 'retryable';
  const redirects = status >= 300 && status <= 399 ? '; redirects are not followed, name the final URL' : '';
  return {
    ...failed(kind, `the target answered ${status}${redirects}${reasonOf(answer)}`),
    retry_after_seconds: wished_seconds ?? told_seconds,
    http_status: status,
  };
}

function unusable(status: number, how: string): Verdict {
  return { ...failed('permanent', `the target answered ${status} ${how}`), http_status: status };
}

/** A target that explains itself by RFC 9457 wants its sentence to be read. */
function reasonOf({ headers, body }: Extract<TargetAnswer, { kind: 'answered' }>): string {
  if (body === null || !/^application\/problem\+json\b/i.test(headers['content-type'] ?? '')) return '';
  const text = readJsonValue(body, deepest);
  const problem: unknown = text === null ? null : JSON.parse(text);
  const { detail, title } = (problem ?? {}) as { detail?: unknown; title?: unknown };
  const said = typeof detail === 'string' ? detail : title;
  return typeof said === 'string' ? `: ${said.slice(0, 500)}` : '';
}

const deepest = 64;

/** JSON stays the text it is; other text becomes a JSON string; bytes that are no text are wrapped. Nothing is no result. */
function resultOf(body: Buffer, contentType: string): string | null {
  if (body.length === 0) return null;
  const isJson = /^[^;]*[/+]json\s*(;|$)/i.test(contentType);
  const json = isJson ? readJsonValue(body, deepest) : null;
  if (json !== null) return json;
  if (isUtf8(body)) return JSON.stringify(body.toString('utf8'));
  return JSON.stringify({ content_type: contentType, base64: body.toString('base64') });
}

/** `Location` may be relative to what was called (RFC 9110 section 10.2.2); what is no URL to give on is dropped. */
function createdUri(location: string | undefined, url: string): string | null {
  const created = location === undefined ? null : URL.parse(location, url);
  if (created === null || !/^https?:$/.test(created.protocol) || created.href.length > 2_048) return null;
  return created.href;
}

// RFC 9110 section 10.2.3. How long a wait may be is for `afterFailure` to say.
function retryAfterSeconds(text: string | undefined, now: Date): number | null {
  if (text === undefined) return null;
  if (/^\d+$/.test(text)) return Number(text);
  if (!/^\w{3}, \d{2} \w{3} \d{4} \d{2}:\d{2}:\d{2} GMT$/.test(text)) return null;
  const seconds = (Date.parse(text) - now.getTime()) / 1_000;
  return Number.isNaN(seconds) ? null : Math.max(0, seconds);
}
