// The form of a route: what it answers, what is documented of it, and the errors it can give, taken from the registry of
// problems so that the document cannot drift from what is thrown.
// Next room: the routes; openapi.ts turns what is documented here into the document.
import type { FastifyReply, FastifyRequest, RouteGenericInterface } from 'fastify';
import type { z } from 'zod';
import { type ProblemSlug, problems } from '../domain/problems.ts';
import { Problem } from './schemas/problem.ts';

/** The schema of a header, as plain JSON schema. */
export interface HeaderSchema {
  readonly type: 'string' | 'integer';
  readonly description: string;
}

/** One answer of a route; without `content` it has no body. */
export interface ResponseDoc {
  readonly description: string;
  readonly headers?: Readonly<Record<string, HeaderSchema>>;
  readonly content?: Readonly<Record<string, { readonly schema: z.ZodType }>>;
}

/** A route without its method and path, which app.ts lists. */
export interface Route<Generic extends RouteGenericInterface = RouteGenericInterface> {
  readonly config?: {
    /** Which expectations are resolved here (negotiate.ts); elsewhere they are refused. */
    readonly negotiates?: 'all' | 'accepted';
    /** Request headers that matter here, for the document. */
    readonly headers?: readonly RequestHeader[];
  };
  readonly schema: {
    readonly operationId: string;
    readonly summary: string;
    readonly description?: string;
    readonly tags: readonly [Tag];
    readonly params?: z.ZodType;
    readonly querystring?: z.ZodType;
    readonly body?: z.ZodType;
    /** Media types of the body; absent: application/json. */
    readonly consumes?: readonly string[];
    readonly response: Readonly<Record<number, ResponseDoc>>;
  };
  /** Checks the body instead of its schema, which then only documents it. */
  readonly check?: (body: unknown) => unknown;
  /** What the schema of the body makes of one it surely takes; null: ask the schema. */
  readonly usual?: (body: unknown) => object | null;
  readonly handler: (
    request: FastifyRequest<Generic>,
    reply: FastifyReply,
  ) => FastifyReply | Promise<FastifyReply | undefined>;
}

/** The groups of the document. */
export const tags = {
  jobs: 'Submit jobs, follow them, read their results.',
  queues: 'See what queues do, set how they do it, pull their levers.',
  schedules: 'Have jobs made at set times, and see what became of every one of them.',
  leases: 'Run jobs from any language: lease, heartbeat, complete, fail, release.',
  'dead-letters': 'What died and why; run it again or let it go.',
  operations: 'Levers over many jobs at once, and the book of who did what.',
  workers: 'See who takes work, and what nobody takes.',
  service: 'Health, metrics and this document.',
} as const;

export type Tag = keyof typeof tags;

/** Request headers that mean something here. */
export const requestHeaders = {
  Expect:
    'A demand: `202-accepted`, `200-ok`, `201-created` or `204-no-content`. Clients or proxies that cannot pass it use Errand-Expect.',
  'Errand-Expect': 'The twin of Expect, for clients and proxies that cannot pass that.',
  Prefer: '`wait=N`: wait up to N seconds. On a submit also `respond-async` and `return=minimal` (RFC 7240).',
  Accept: '`text/event-stream` for a stream, else `application/json`.',
  'Last-Event-ID': 'The last event that was seen: only later ones are told. Comes before `after`.',
  'Idempotency-Key': 'Names this request, so that a repeat finds the same job: 1 to 255 characters.',
  traceparent: 'W3C trace context: kept with the job and passed on to whoever runs it.',
  tracestate: 'Goes with traceparent.',
  'Errand-Type': 'Type of the job; absent: `default`.',
  'Errand-Priority': 'Priority, 0 to 9.',
  'Errand-Run-At': 'Not before this time (RFC 3339).',
  'Errand-Delay': 'Not before this many seconds from now.',
  'Errand-Expires-At': 'A job that has not started by then never starts (RFC 3339).',
  'Errand-Max-Attempts': 'Attempts before the job is dead.',
  'Errand-Timeout': 'Longest run of one attempt, in seconds.',
  'Errand-Max-Age': 'No further attempt begins later than this many seconds after the job was due first.',
  'Errand-Tags': 'Tags, with commas between them.',
  'Errand-Unique-Key': 'Of all jobs with this key one holds it (`unique.key`).',
  'Errand-On-Conflict':
    'What becomes of the job when its key is held: `return`, `reject`, `replace`, `rerun`.',
  'Errand-Target': 'URL the job is pushed to by POST.',
  'Errand-Callback': 'URL that is told of the end, whichever it is.',
  'Errand-Actor': 'Who acts, for the audit: 1 to 128 printable ASCII characters; absent: `anonymous`.',
  'If-None-Match': 'Answers 304 while the ETag is still this one.',
  'If-Match': 'Answers 412 unless the ETag is this one.',
} as const;

export type RequestHeader = keyof typeof requestHeaders;

const anywhere: readonly ProblemSlug[] = [
  'bad-header',
  'request-timeout',
  'uri-too-long',
  'expectation-unknown',
  'expectation-conflict',
  'expectation-impossible',
  'headers-too-large',
  'internal',
  'draining',
];

/** What any route that reads a body may answer. */
export const bodyFaults: readonly ProblemSlug[] = [
  'malformed-json',
  'invalid-utf8',
  'duplicate-key',
  'payload-too-large',
  'unsupported-media-type',
  'validation-failed',
  'payload-not-storable',
];

/** What any route that asks the database may answer. */
export const storeFaults: readonly ProblemSlug[] = ['database-unavailable', 'queue-saturated'];

/** Documents the errors of a route, by status: these and the ones every route has. */
export function refusals(...slugs: readonly ProblemSlug[]): Record<number, ResponseDoc> {
  const byStatus = new Map<number, ProblemSlug[]>();
  for (const slug of [...anywhere, ...slugs]) {
    for (const status of slug === 'job-failed' ? [422, 500, 502, 504] : [problems[slug].status]) {
      byStatus.set(status, [...(byStatus.get(status) ?? []), slug]);
    }
  }
  return Object.fromEntries([...byStatus].map(([status, all]) => [status, refusal(all)]));
}

/** Documents headers that come with every one of these answers. */
export function withHeaders(
  docs: Record<number, ResponseDoc>,
  headers: Readonly<Record<string, HeaderSchema>>,
): Record<number, ResponseDoc> {
  return Object.fromEntries(
    Object.entries(docs).map(([status, doc]) => [
      status,
      { ...doc, headers: { ...doc.headers, ...headers } },
    ]),
  );
}

function refusal(slugs: readonly ProblemSlug[]): ResponseDoc {
  return {
    description: slugs.map((slug) => `\`${slug}\`: ${problems[slug].title}.`).join(' '),
    headers: Object.assign({}, ...slugs.map(headersWith)),
    content: { 'application/problem+json': { schema: Problem } },
  };
}

const errandMode: HeaderSchema = { type: 'string', description: '`refused`: it was Errand, not a proxy.' };

const sentWith: Readonly<Partial<Record<ProblemSlug, Record<string, HeaderSchema>>>> = {
  'expectation-unknown': { 'Errand-Mode': errandMode },
  'expectation-conflict': { 'Errand-Mode': errandMode },
  'expectation-impossible': { 'Errand-Mode': errandMode },
  'unsupported-media-type': {
    'Accept-Post': { type: 'string', description: 'The media types that can be sent.' },
    'Accept-Patch': { type: 'string', description: 'The media types a change can have.' },
    'Accept-Encoding': { type: 'string', description: 'The encodings that can be sent.' },
  },
  'precondition-failed': { ETag: { type: 'string', description: 'The present state.' } },
  'precondition-required': { ETag: { type: 'string', description: 'The present state.' } },
};

function headersWith(slug: ProblemSlug): Record<string, HeaderSchema> {
  const retries = 'retry_after_seconds' in problems[slug];
  return {
    ...(retries ? { 'Retry-After': { type: 'integer', description: 'Seconds to wait.' } } : {}),
    ...sentWith[slug],
  };
}
