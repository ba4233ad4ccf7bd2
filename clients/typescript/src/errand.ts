// The client: submit jobs, follow them to their end, change their course.
// Invariants: a demand that was lost on the way is never taken for an answer to it; what fails to be told is told as an
// error with a name; a job that has ended without success is an ErrandProblem to whoever asked for its result.
// Next room: call.ts; events.ts for a job's events; worker.ts for the other side.
import { Caller, type Connection, held_ms, pause, retryAfterOf } from './call.ts';
import { eventsOf, type JobEvent } from './events.ts';
import { ErrandProblem, Stripped } from './problem.ts';
import type { Answer, Body, Job, JobStatus, NewJob, Problem, Query } from './shapes.ts';

/** The demands that make a caller wait for the outcome. */
type Demand = '200-ok' | '201-created' | '204-no-content';

export interface SubmitOptions {
  /** One key, one job, however often the request is repeated. With it, `submit` repeats what nobody answered. */
  idempotencyKey?: string;
  /** Seconds to wait for the outcome: a wish, or, with a demand in `expect`, how long to wait for it. */
  wait?: number;
  /** What the answer must be. */
  expect?: Demand | '202-accepted';
  signal?: AbortSignal | undefined;
}

export interface ManyOptions {
  idempotencyKey?: string;
  signal?: AbortSignal | undefined;
}

/** A job that is stored and goes on. */
export interface Accepted<Result> {
  kind: 'accepted';
  id: string;
  job: Job;
  /** How the request was understood; null where the answer did not say. */
  mode: string | null;
  /** A wish to wait was lost on the way. */
  stripped: boolean;
  /** Whether the key had made this job before. */
  replayed: boolean;
  /** Follows the job to its end. */
  follow(options?: { signal?: AbortSignal | undefined }): Promise<Done<Result>>;
}

/** A job that succeeded. */
export interface Done<Result> {
  kind: 'done';
  id: string;
  /** Undefined where there is none, or where 204 was demanded. */
  result: Result | undefined;
  /** URI of what the job created, where its worker named one. */
  created: string | null;
  replayed: boolean;
}

type Filter = Omit<Query<'listJobs'>, 'cursor' | 'limit'>;
/** Which jobs to list; filters go together. */
export type JobFilter = { [Name in keyof Filter]: Filter[Name] | undefined };

/** How long one call waits for a change, in seconds; the service may cut it. */
const poll_seconds = 20;

/** Errand over HTTP. */
export class Errand {
  /** For what this class does not do: a call with its errors as errors. */
  readonly caller: Caller;

  constructor(connection: Connection) {
    this.caller = new Caller(connection);
  }

  /** Submits a job; with a demand, the promise is its outcome. */
  submit<Result = unknown>(job: NewJob, options: SubmitOptions & { expect: Demand }): Promise<Done<Result>>;
  submit<Result = unknown>(
    job: NewJob,
    options?: SubmitOptions & { expect?: '202-accepted'; wait?: never },
  ): Promise<Accepted<Result>>;
  submit<Result = unknown>(job: NewJob, options: SubmitOptions): Promise<Accepted<Result> | Done<Result>>;
  async submit<Result>(job: NewJob, options: SubmitOptions = {}): Promise<Accepted<Result> | Done<Result>> {
    const { expect, wait, idempotencyKey, signal } = options;
    const request = {
      method: 'POST',
      headers: {
        ...(expect === undefined ? {} : { 'Errand-Expect': expect }),
        ...(wait === undefined ? {} : { Prefer: `wait=${wait}` }),
        ...keyHeader(idempotencyKey),
      },
      json: job,
      signal,
      seconds: (wait ?? 30) + 30,
    } as const;
    const isRepeatable = idempotencyKey !== undefined;
    const answer = await (isRepeatable
      ? this.caller.persist('/v1/jobs', request)
      : this.caller.send('/v1/jobs', request));
    if (answer.status !== 202) return this.#done(answer, signal);
    const accepted = await this.#accepted<Result>(answer, isLost(answer, options));
    if (accepted.stripped && expect !== undefined) throw new Stripped(accepted as Accepted<never>);
    return accepted;
  }

  /** Submits many jobs in one call: all are stored, or none. */
  async submitMany(jobs: Body<'submitBatch'>['jobs'], options: ManyOptions = {}): Promise<Job[]> {
    const { idempotencyKey, signal } = options;
    const request = { method: 'POST', headers: keyHeader(idempotencyKey), json: { jobs }, signal } as const;
    const isRepeatable = idempotencyKey !== undefined;
    const answer = await (isRepeatable
      ? this.caller.persist('/v1/jobs/batch', request)
      : this.caller.send('/v1/jobs/batch', request));
    const { jobs: stored } = (await answer.json()) as Answer<'submitBatch', 202>;
    return stored as Job[];
  }

  /** The record of a job; with its payload or its attempts where asked for. */
  async job(
    id: string,
    options: { include?: Query<'readJob'>['include']; signal?: AbortSignal | undefined } = {},
  ): Promise<Job> {
    const { include, signal } = options;
    const query = include === undefined ? '' : `?include=${include}`;
    return (await this.caller.persist(`${pathOf(id)}${query}`, { signal })).json() as Promise<Job>;
  }

  /** How far a job is. */
  async status(id: string, options: { signal?: AbortSignal | undefined } = {}): Promise<JobStatus> {
    return (await this.#look(id, null, options.signal)).status;
  }

  /** Waits until a job has ended, however it ended. Abort the signal to wait no longer. */
  async wait(id: string, { signal }: { signal?: AbortSignal | undefined } = {}): Promise<JobStatus> {
    let seen: Look | null = null;
    for (;;) {
      const began = performance.now();
      const look: Look = await this.#look(id, seen, signal);
      if (look.status.terminal) return look.status;
      const isUnheld = look.etag === seen?.etag && performance.now() - began < held_ms;
      if (isUnheld) await pause((look.retryAfterSeconds ?? 1) * 1_000, signal);
      seen = look;
    }
  }

  /** Waits for a job to succeed and reads its result; throws an ErrandProblem when it ends otherwise. */
  async follow<Result = unknown>(
    id: string,
    options: { signal?: AbortSignal | undefined } = {},
  ): Promise<Done<Result>> {
    const status = await this.wait(id, options);
    if (status.state !== 'succeeded') throw unsuccessful(status);
    const result = status.result === null ? undefined : await this.result<Result>(id, options);
    return { kind: 'done', id, result, created: status.created, replayed: false };
  }

  /** The result of a job that succeeded; undefined where it left none. */
  async result<Result = unknown>(
    id: string,
    { signal }: { signal?: AbortSignal | undefined } = {},
  ): Promise<Result | undefined> {
    const answer = await this.caller.persist(`${pathOf(id)}/result`, { signal });
    return answer.status === 204 ? undefined : ((await answer.json()) as Result);
  }

  /** Cancels a job. `cancelled` is final; else it runs, was asked to stop, and no new attempt starts. */
  async cancel(
    id: string,
    { signal }: { signal?: AbortSignal | undefined } = {},
  ): Promise<{ cancelled: boolean; job: Job }> {
    const answer = await this.caller.persist(`${pathOf(id)}/cancel`, { method: 'POST', signal });
    return { cancelled: answer.status === 200, job: (await answer.json()) as Job };
  }

  /** Runs a job again: this one if it waits for its next attempt, else a new one that repeats it. */
  async retry(id: string, { signal }: { signal?: AbortSignal | undefined } = {}): Promise<Job> {
    const answer = await this.caller.persist(`${pathOf(id)}/retry`, { method: 'POST', signal });
    return (await answer.json()) as Job;
  }

  /** All jobs that fit, page by page as they are asked for. */
  async *list(
    filter: JobFilter = {},
    { signal }: { signal?: AbortSignal | undefined } = {},
  ): AsyncGenerator<Job, void, void> {
    let cursor: string | null = '';
    while (cursor !== null) {
      const query = new URLSearchParams({ ...given(filter), limit: '200' });
      if (cursor !== '') query.set('cursor', cursor);
      const answer = await this.caller.persist(`/v1/jobs?${query}`, { signal });
      const page = (await answer.json()) as Answer<'listJobs', 200>;
      yield* page.items;
      cursor = page.next_cursor;
    }
  }

  /** What happens to a job, from the beginning or after an event, until it has ended; lost connections are resumed. */
  events(
    id: string,
    options: { after?: string; signal?: AbortSignal | undefined } = {},
  ): AsyncGenerator<JobEvent, void, void> {
    return eventsOf(this.caller, `${pathOf(id)}/events`, options);
  }

  async #accepted<Result>(answer: Response, stripped: boolean): Promise<Accepted<Result>> {
    const job = (await answer.json()) as Job;
    return {
      kind: 'accepted',
      id: job.id,
      job,
      mode: answer.headers.get('errand-mode'),
      stripped,
      replayed: isReplay(answer),
      follow: (options) => this.follow<Result>(job.id, options),
    };
  }

  async #done<Result>(answer: Response, signal: AbortSignal | undefined): Promise<Done<Result>> {
    const id = answer.headers.get('errand-job-id') ?? '';
    const own = pathOf(id);
    const shown = answer.headers.get('content-location');
    const named = answer.headers.get('location') ?? shown;
    const created = named === null || named === own || named === `${own}/result` ? null : named;
    const done = { kind: 'done', id, created, replayed: isReplay(answer) } as const;
    if (answer.status === 204) return { ...done, result: undefined };
    const body = (await answer.json()) as Result;
    if (shown === `${own}/result`) return { ...done, result: body };
    // The body of what was created may be the result or the record, and only the latter is told apart by its place.
    return {
      ...done,
      result: shown === own ? undefined : await this.result<Result>(id, { signal }),
    };
  }

  async #look(id: string, seen: Look | null, signal: AbortSignal | undefined): Promise<Look> {
    const headers = seen === null ? {} : { Prefer: `wait=${poll_seconds}`, 'If-None-Match': seen.etag };
    // A redirect would be followed to the result, and what it says of the job be lost.
    const request = { headers, redirect: 'manual', signal, seconds: poll_seconds + 30 } as const;
    const answer = await this.caller.persist(`${pathOf(id)}/status`, request);
    const retryAfterSeconds = retryAfterOf(answer);
    if (seen !== null && answer.status === 304) return { ...seen, retryAfterSeconds };
    // Browsers show nothing of a redirect that they were told not to follow.
    const status = answer.type === 'opaqueredirect' ? await this.job(id, { signal }) : await answer.json();
    return { status: status as JobStatus, etag: answer.headers.get('etag') ?? '', retryAfterSeconds };
  }
}

interface Look {
  status: JobStatus;
  etag: string;
  retryAfterSeconds: number | null;
}

function pathOf(id: string): string {
  return `/v1/jobs/${encodeURIComponent(id)}`;
}

function given(filter: JobFilter): Record<string, string> {
  const members = Object.entries(filter).filter(([, value]) => value !== undefined);
  return Object.fromEntries(members.map(([name, value]) => [name, String(value)]));
}

function keyHeader(key: string | undefined): Record<string, string> {
  return key === undefined ? {} : { 'Idempotency-Key': key };
}

function isReplay({ headers }: Response): boolean {
  return headers.get('idempotency-replayed') === 'true';
}

/** Whether what was asked for is not what the answer says was understood (docs/contract.md, Modes). */
function isLost({ headers }: Response, { expect, wait = 0 }: SubmitOptions): boolean {
  const mode = headers.get('errand-mode') ?? '';
  if (expect !== undefined) return !mode.includes(`expect="${expect}"`);
  return wait >= 1 && !mode.startsWith('soft;');
}

/** What a caller who had waited would have been answered. */
function unsuccessful({ id, state, error }: JobStatus): ErrandProblem {
  const code = (state === 'dead' ? 'job-failed' : `job-${state}`) as Problem['code'];
  const detail = error?.detail ?? `job ${id} is ${state}`;
  const status = error?.status ?? (state === 'expired' ? 504 : 409);
  const about = {
    job: { id, state, ...(error === null ? {} : { error }) },
    request_id: '',
    retryable: false,
  };
  return new ErrandProblem({
    type: `/problems/${code}`,
    title: `The job is ${state}`,
    status,
    detail,
    code,
    ...about,
  });
}
