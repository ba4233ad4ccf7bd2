// One occurrence of a problem: what is thrown anywhere and told to the caller, by RFC 9457.
// Invariants: only problems of the registry can be thrown; `detail` is public, `cause` never leaves the log; what may be
// tried again says when.
// Next room: http/problem.ts turns it into application/problem+json.
import { type ProblemEntry, type ProblemSlug, problems } from './problems.ts';

/** One fault in a body: where (JSON pointer as a URI fragment), which, and a sentence (RFC 9457 section 3). */
export interface ProblemFault {
  readonly pointer: string;
  readonly code: string;
  readonly detail: string;
}

/** The job an answer is about: at least its id and state (docs/contract.md, Outcomes). */
export interface ProblemJob {
  readonly id: string;
  readonly state: string;
  readonly [member: string]: unknown;
}

/** What one occurrence of a problem adds to its registry entry. */
export interface ProblemOptions {
  readonly detail: string;
  readonly status?: number;
  readonly retryable?: boolean;
  readonly instance?: string;
  readonly errors?: readonly ProblemFault[];
  readonly job?: ProblemJob;
  readonly headers?: Readonly<Record<string, string>>;
  readonly extra?: ProblemExtra;
  readonly cause?: unknown;
}

/** Extension members such as `executed`, `waited_ms` and `reason`; they cannot replace a member of the form itself. */
export type ProblemExtra = Readonly<Record<string, unknown>> & {
  readonly [Member in keyof ProblemBody]?: never;
};

/** The problem as it is sent: RFC 9457 members, then `code`, `request_id`, `retryable` and what applies. */
export interface ProblemBody {
  type: string;
  title: string;
  status: number;
  detail: string;
  instance?: string;
  code: ProblemSlug;
  job?: ProblemJob;
  errors?: readonly ProblemFault[];
  request_id: string;
  retryable: boolean;
}

/** An error the caller is told: `detail` is public, `cause` never leaves the log (RFC 9457). */
export class Problem extends Error {
  readonly slug: ProblemSlug;
  readonly status: number;
  readonly title: string;
  readonly detail: string;
  readonly retryable: boolean;
  readonly instance: string | undefined;
  readonly errors: readonly ProblemFault[];
  readonly job: ProblemJob | undefined;
  readonly headers: Readonly<Record<string, string>>;
  readonly extra: ProblemExtra;

  constructor(slug: ProblemSlug, options: ProblemOptions) {
    super(`${slug}: ${options.detail}`, options.cause === undefined ? undefined : { cause: options.cause });
    const entry: ProblemEntry = problems[slug];
    this.name = 'Problem';
    this.slug = slug;
    this.status = options.status ?? entry.status;
    this.title = entry.title;
    this.detail = options.detail;
    this.retryable = options.retryable ?? entry.retryable;
    this.instance = options.instance;
    this.errors = options.errors ?? [];
    this.job = options.job;
    this.headers = this.retryable ? withRetryAfter(entry, options.headers) : (options.headers ?? {});
    this.extra = options.extra ?? {};
  }

  /** When the same request may be sent again, in s; null: nobody says. */
  get retry_after_seconds(): number | null {
    const after = this.headers['retry-after'];
    return after === undefined ? null : Number(after);
  }
}

/** Builds the JSON object of an `application/problem+json` answer (RFC 9457 section 3). */
export function toBody(problem: Problem, requestId: string): ProblemBody & Record<string, unknown> {
  return {
    type: `/problems/${problem.slug}`,
    title: problem.title,
    status: problem.status,
    detail: problem.detail,
    ...(problem.instance === undefined ? {} : { instance: problem.instance }),
    code: problem.slug,
    ...problem.extra,
    ...(problem.job === undefined ? {} : { job: problem.job }),
    ...(problem.errors.length === 0 ? {} : { errors: problem.errors }),
    request_id: requestId,
    retryable: problem.retryable,
  };
}

// A 503 without Retry-After makes well-behaved clients hammer, so the registry supplies it when the thrower does not.
function withRetryAfter(
  entry: ProblemEntry,
  headers: Readonly<Record<string, string>> = {},
): Readonly<Record<string, string>> {
  if (entry.retry_after_seconds === undefined) return headers;
  if (Object.keys(headers).some((name) => name.toLowerCase() === 'retry-after')) return headers;
  return { ...headers, 'retry-after': String(entry.retry_after_seconds) };
}
