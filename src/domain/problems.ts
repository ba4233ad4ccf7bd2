// Every way a request or a job can go wrong, once: the slug a program reads, the status, the title and the
// two sentences a person reads. Nothing answers an error that is not listed here, so the OpenAPI responses,
// `GET /problems/{slug}` and docs/problems/ cannot drift from what is thrown.
// Next room: problem.ts, what is thrown of them.

/** What is the same in every occurrence of a problem. */
export interface ProblemEntry {
  readonly status: number;
  readonly title: string;
  readonly retryable: boolean;
  readonly meaning: string;
  readonly remedy: string;
  readonly retry_after_seconds?: number;
}

/** The registry: every problem by slug, with its status, title and what to do about it (RFC 9457). */
export const problems = {
  'malformed-json': {
    status: 400,
    title: 'Body is not readable JSON',
    retryable: false,
    meaning:
      'The body is empty, is not JSON, starts with a byte order mark, is nested too deeply or has too many members.',
    remedy: 'Correct the body at the byte named in `detail` and send it again.',
  },
  'invalid-utf8': {
    status: 400,
    title: 'Body is not UTF-8',
    retryable: false,
    meaning: 'The body holds bytes that are not UTF-8, the only encoding JSON has between systems.',
    remedy: 'Encode the body as UTF-8; send bytes that are no text as base64 inside a JSON string.',
  },
  'duplicate-key': {
    status: 400,
    title: 'A member appears twice',
    retryable: false,
    meaning:
      'One object of the body names the same member twice, so it cannot be known which of the two was meant.',
    remedy: 'Send each member once; `errors` points at the second one.',
  },
  'idempotency-key-missing': {
    status: 400,
    title: 'Idempotency-Key is missing',
    retryable: false,
    meaning: 'The queue takes only submits that can be repeated safely, and this one came without a key.',
    remedy:
      'Send an `Idempotency-Key` that is new for each piece of work and the same for each repeat of it.',
  },
  'idempotency-key-malformed': {
    status: 400,
    title: 'Idempotency-Key is malformed',
    retryable: false,
    meaning: 'The `Idempotency-Key` is empty, too long, sent twice or holds characters that are not allowed.',
    remedy: 'Send one key of 1 to 255 characters from `A-Z a-z 0-9 . _ : ~ / + = -`, with or without quotes.',
  },
  'bad-header': {
    status: 400,
    title: 'A header cannot be read',
    retryable: false,
    meaning: 'A header of the request has a value that cannot be read, or the request line itself is broken.',
    remedy: 'Correct the header named in `detail` and send the request again.',
  },
  'cursor-invalid': {
    status: 400,
    title: 'The cursor does not belong to this list',
    retryable: false,
    meaning: 'The `cursor` is damaged, was not issued here, or was issued for other filters.',
    remedy:
      'Take the cursor from `next_cursor` or follow the `Link`, with the same filters; or begin without a cursor.',
  },
  'not-found': {
    status: 404,
    title: 'Not found',
    retryable: false,
    meaning:
      'There is nothing at this path, or what it names (a job, queue, schedule, operation) does not exist or is not yours to see.',
    remedy: 'Check the path and the id; take URLs from `Location` and `Link` instead of building them.',
  },
  'result-not-ready': {
    status: 404,
    title: 'There is no result yet',
    retryable: true,
    retry_after_seconds: 1,
    meaning: 'The job has not ended yet, or it ended in a way that leaves no result.',
    remedy: 'Poll `/v1/jobs/{id}/status`, which redirects to the result as soon as there is one.',
  },
  'method-not-allowed': {
    status: 405,
    title: 'Method not allowed',
    retryable: false,
    meaning: 'The path exists, but not with this method.',
    remedy: 'Use one of the methods in the `Allow` header.',
  },
  'not-acceptable': {
    status: 406,
    title: 'No acceptable form',
    retryable: false,
    meaning: 'The `Accept` header allows none of the media types this path can answer with.',
    remedy: 'Send an `Accept` with one of the media types named in `detail`, or none.',
  },
  'request-timeout': {
    status: 408,
    title: 'The request arrived too slowly',
    retryable: true,
    meaning: 'The headers or the body did not arrive completely in time; nothing was stored.',
    remedy: 'Send the whole request without long pauses.',
  },
  'job-not-unique': {
    status: 409,
    title: 'Another job holds the unique key',
    retryable: false,
    meaning:
      'The job has a `unique.key` that another job holds, and its `on_conflict` does not allow for that: `reject`, or `replace` while the holder runs.',
    remedy:
      'Follow `Location`, which is the holder; send it again when that has ended; or use `on_conflict` `return`, `replace` or `rerun`.',
  },
  'job-state-conflict': {
    status: 409,
    title: 'The state of the job does not allow this',
    retryable: false,
    meaning:
      'The job is in a state from which the requested change is not possible; `job` shows the present one.',
    remedy: 'Read the job again and decide from its present state.',
  },
  'job-cancelled': {
    status: 409,
    title: 'The job was cancelled',
    retryable: false,
    meaning: 'Somebody else cancelled the job while this request waited for it.',
    remedy: 'Submit it again, with a new `Idempotency-Key`, if the work is still wanted.',
  },
  'lease-lost': {
    status: 409,
    title: 'The lease is lost',
    retryable: false,
    meaning:
      'The lease has expired, was given back or never existed, and the job may be running elsewhere already.',
    remedy: 'Stop working on the job, discard its result and claim again.',
  },
  'idempotency-in-flight': {
    status: 409,
    title: 'The first request is still being stored',
    retryable: true,
    retry_after_seconds: 1,
    meaning: 'A request with the same `Idempotency-Key` has not been committed yet.',
    remedy: 'Repeat the same request with the same key after `Retry-After`.',
  },
  'queue-draining': {
    status: 409,
    title: 'The queue takes no jobs',
    retryable: true,
    retry_after_seconds: 60,
    meaning:
      'The queue is being drained: what is there is worked off, nothing new is taken; nothing was stored.',
    remedy: 'Submit to another queue, or repeat after `Retry-After`: by then the drain may be over.',
  },
  'queue-not-empty': {
    status: 409,
    title: 'The queue is not empty',
    retryable: false,
    meaning: 'A queue in which jobs wait or run cannot be deleted.',
    remedy:
      'Drain it and delete it when its record says `"done": true` in `drain`; or reroute its jobs, or end them by the action `queue.delete_force`.',
  },
  'result-expired': {
    status: 410,
    title: 'The result is no longer kept',
    retryable: false,
    meaning: 'The job ended longer ago than its result is kept.',
    remedy: 'Fetch results while they are kept, or store them elsewhere.',
  },
  'job-archived': {
    status: 410,
    title: 'The job is no longer kept',
    retryable: false,
    meaning: 'The job existed, ended, and was removed when its retention time had passed.',
    remedy: 'Read jobs while they are kept, or store what you need of them elsewhere.',
  },
  'impact-changed': {
    status: 409,
    title: 'It would meet other jobs by now',
    retryable: false,
    meaning:
      'More than a tenth more or fewer jobs fit than when the action was proposed; `impact` and `confirm_phrase` are new.',
    remedy: 'Look at `impact`, and confirm by the new `confirm_phrase` if it is still wanted.',
  },
  'operation-state-conflict': {
    status: 409,
    title: 'The state of the operation does not allow this',
    retryable: false,
    meaning:
      'The operation or action is over, or what it has done cannot be put back any more: its undo window has ended.',
    remedy: 'Read `/v1/operations/{id}` or `/v1/admin/actions/{id}` and decide from its present state.',
  },
  'action-expired': {
    status: 410,
    title: 'The action cannot be confirmed any more',
    retryable: false,
    meaning: 'An action waits ten minutes for its phrase; this one waited longer, or was withdrawn.',
    remedy: 'Propose it again by `POST /v1/admin/actions`, and look at its impact.',
  },
  'precondition-failed': {
    status: 412,
    title: 'It is not as the request says',
    retryable: false,
    meaning:
      'The `If-Match` header does not name the present state of the job, schedule or queue, or `If-None-Match: *` was sent and it exists.',
    remedy: 'Read it again, look at what has changed and repeat with the new `ETag`.',
  },
  'payload-too-large': {
    status: 413,
    title: 'The body is too large',
    retryable: false,
    meaning: 'The body, the payload or the result is larger than the limit named in `detail`.',
    remedy:
      'Store large data elsewhere and send a reference to it, or raise the limit (`ERRAND_PAYLOAD_LIMIT_BYTES`).',
  },
  'uri-too-long': {
    status: 414,
    title: 'The URL is too long',
    retryable: false,
    meaning: 'The request line is longer than the server reads.',
    remedy: 'Shorten the URL; send data in the body.',
  },
  'unsupported-media-type': {
    status: 415,
    title: 'The media type is not supported',
    retryable: false,
    meaning: 'The body has a `Content-Type` or a `Content-Encoding` that this path does not read.',
    remedy:
      'Send one of the types in `Accept-Post` without `Content-Encoding`; other bytes travel as base64 in a JSON string.',
  },
  'expectation-unknown': {
    status: 417,
    title: 'The expectation is not known',
    retryable: false,
    meaning: '`Expect` or `Errand-Expect` holds a value that is not known here; no job was stored.',
    remedy:
      'Use `202-accepted`, `200-ok`, `201-created` or `204-no-content` where a job is submitted, and none elsewhere.',
  },
  'expectation-conflict': {
    status: 417,
    title: 'The expectations contradict each other',
    retryable: false,
    meaning: '`Expect` and `Errand-Expect` together ask for two different answers; no job was stored.',
    remedy: 'Send one expectation, or the same one in both headers.',
  },
  'expectation-impossible': {
    status: 417,
    title: 'The expectation cannot be met',
    retryable: false,
    meaning:
      'It is known beforehand that the answer asked for cannot be given; `reason` says why; no job was stored.',
    remedy:
      'Do what `detail` says: mostly, send the request without the expectation and follow the `Location` of the 202; where a queue takes only callers who wait, demand an outcome.',
  },
  'expectation-timeout': {
    status: 417,
    title: 'Synchronous wait ran out',
    retryable: true,
    meaning:
      'The job did not end within the wait. With `"executed": false` it was cancelled and will not run; with `"in_progress"` it goes on; with `"pending"` it belongs to an earlier request and still waits.',
    remedy: 'After `false`, send it again with a new `Idempotency-Key`; otherwise follow `Location`.',
  },
  'validation-failed': {
    status: 422,
    title: 'The request is not valid',
    retryable: false,
    meaning: 'The body was read, but a member is unknown, missing, of the wrong type or out of range.',
    remedy: 'Correct the members that `errors` points at.',
  },
  'payload-not-storable': {
    status: 422,
    title: 'A text cannot be stored',
    retryable: false,
    meaning:
      'A text outside `payload` and `result` holds U+0000 or half of a surrogate pair, which Postgres cannot store.',
    remedy: 'Remove the character from the member that `errors` points at.',
  },
  'confirmation-mismatch': {
    status: 422,
    title: 'That is not the phrase',
    retryable: false,
    meaning: 'The `phrase` is not the `confirm_phrase` of the action, letter by letter.',
    remedy: 'Read the action again, look at its impact, and type its `confirm_phrase`.',
  },
  'idempotency-key-reused': {
    status: 422,
    title: 'The Idempotency-Key was used for another request',
    retryable: false,
    meaning: 'The same `Idempotency-Key` was sent before with a different body, media type or path.',
    remedy: 'Use a new key for a new request, and repeat a request byte for byte.',
  },
  'job-failed': {
    status: 500,
    title: 'The job failed',
    retryable: false,
    meaning:
      'The request was in order, but the job it waited for is dead: 422 when a worker or handler declared it permanent or poison, 504 when it ran out of time, 502 when a target or worker failed, 500 when a handler of this server failed.',
    remedy: 'Look at `job.error`, mend the cause and submit the work again.',
  },
  'precondition-required': {
    status: 428,
    title: 'The request must say what it changes',
    retryable: false,
    meaning:
      'A schedule or queue that exists is changed or deleted only with an `If-Match`, so that nobody undoes a change they have not seen.',
    remedy: 'Read it and send its `ETag` as `If-Match`; the answer has it, too.',
  },
  'stream-limit': {
    status: 429,
    title: 'Too many streams are open',
    retryable: true,
    retry_after_seconds: 5,
    meaning: 'This replica serves as many event streams as it is allowed to.',
    remedy: 'Repeat after `Retry-After`, or poll the status with `Prefer: wait=N`.',
  },
  'headers-too-large': {
    status: 431,
    title: 'The headers are too large',
    retryable: false,
    meaning: 'The request has more header lines or more header bytes than the server reads.',
    remedy: 'Send fewer and shorter headers.',
  },
  internal: {
    status: 500,
    title: 'Internal error',
    retryable: false,
    meaning: 'Errand met an error of its own; the log has it under the `request_id`.',
    remedy: 'Report the `request_id`; repeat a submission only with its `Idempotency-Key`.',
  },
  'database-unavailable': {
    status: 503,
    title: 'The database cannot be reached',
    retryable: true,
    retry_after_seconds: 2,
    meaning:
      'Postgres did not answer in time. A submit was not stored; a heartbeat, an ending or a cancel may have taken effect.',
    remedy: 'Repeat the request after `Retry-After`: each of them may be repeated without harm.',
  },
  'outcome-unknown': {
    status: 503,
    title: 'It is not known whether the request was stored',
    retryable: true,
    retry_after_seconds: 1,
    meaning:
      'The connection to Postgres broke while the commit was on its way, so it may or may not have happened.',
    remedy: 'Repeat the same request with the same `Idempotency-Key`: it is stored once in either case.',
  },
  'sync-capacity': {
    status: 503,
    title: 'No room for another waiting request',
    retryable: true,
    retry_after_seconds: 2,
    meaning: 'As many requests as allowed already wait for their jobs; no job was stored.',
    remedy: 'Repeat after `Retry-After`, or send the request without the expectation and follow the 202.',
  },
  draining: {
    status: 503,
    title: 'The server is shutting down',
    retryable: true,
    retry_after_seconds: 1,
    meaning: 'This replica is about to stop and no longer takes or holds this request.',
    remedy: 'Repeat after `Retry-After`; with the same `Idempotency-Key` another replica finds the same job.',
  },
  'queue-saturated': {
    status: 503,
    title: 'The queue is full',
    retryable: true,
    retry_after_seconds: 5,
    meaning:
      'As many requests or jobs as allowed are already under way; nothing was stored. `reason` names the limit of the queue, where it is that of a queue.',
    remedy: 'Repeat after `Retry-After` and send more slowly.',
  },
  'job-expired': {
    status: 504,
    title: 'The job expired',
    retryable: false,
    meaning: 'The `expires_at` of the job passed before it could start, or start again; it will not run.',
    remedy: 'Send it again with a later `expires_at`.',
  },
} as const satisfies Record<string, ProblemEntry>;

/** The code of one listed problem, as in the last segment of its `type` (docs/contract.md, Errors). */
export type ProblemSlug = keyof typeof problems;

/** Tells whether a text is the slug of a listed problem. */
export function isProblemSlug(text: string): text is ProblemSlug {
  return Object.hasOwn(problems, text);
}

/** Lists every slug in the order of the registry. */
export function problemSlugs(): readonly ProblemSlug[] {
  return Object.keys(problems) as ProblemSlug[];
}

/** Writes the page of one problem as Markdown, for `GET /problems/{slug}` and docs/problems/. */
export function problemPage(slug: ProblemSlug): string {
  const entry: ProblemEntry = problems[slug];
  const status = slug === 'job-failed' ? '422, 500, 502 or 504' : String(entry.status);
  return [
    `# ${entry.title}`,
    '',
    '| | |',
    '|---|---|',
    `| code | \`${slug}\` |`,
    `| type | \`/problems/${slug}\` |`,
    `| status | ${status} |`,
    `| retryable | ${entry.retryable ? 'yes' : 'no'} |`,
    '',
    `**What it means.** ${entry.meaning}`,
    '',
    `**What to do.** ${entry.remedy}`,
    '',
  ].join('\n');
}

/** Writes the table of all problems as Markdown, the front page of docs/problems/. */
export function problemIndex(): string {
  const rows = problemSlugs().map((slug) => {
    const entry: ProblemEntry = problems[slug];
    return `| ${entry.status} | [\`${slug}\`](${slug}.md) | ${entry.title} |`;
  });
  return ['# Problems', '', '| status | code | title |', '|---|---|---|', ...rows, ''].join('\n');
}
