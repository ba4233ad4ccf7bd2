// The lease protocol over HTTP: how a worker in any language takes jobs and says how they ended.
// Invariants: a lease whose caller has gone before the answer is given back at once; the payload leaves byte for byte;
// whatever a lease id is not good for is 409 `lease-lost`, and the worker must stop.
// Next room: actions/pull.ts.
import type { Actions } from '../actions/actions.ts';
import type { Failing, Leased } from '../actions/pull.ts';
import type { WaitLimits } from '../domain/expectation.ts';
import type { RawJson } from '../domain/json.ts';
import { Problem } from '../domain/problem.ts';
import { most_report_bytes } from '../domain/start.ts';
import { departure, existing, hasRoom, sendJson, sendNobody, sendRecord, withPayload } from './answer.ts';
import { refuseLarge } from './body.ts';
import { wishedWait } from './negotiate.ts';
import { bodyFaults, type Route, refusals, storeFaults } from './route.ts';
import { Job } from './schemas/job.ts';
import {
  AttemptEnd,
  Completion,
  Failure,
  Heartbeat,
  LeaseExtension,
  LeaseList,
  LeaseParams,
  LeaseRequest,
  Release,
  SnoozeWish,
} from './schemas/lease.ts';
import { JsonValue } from './schemas/scalars.ts';

const leaseFaults = refusals(...bodyFaults, ...storeFaults, 'not-found', 'lease-lost');

/** `POST /v1/leases`: hands out jobs, waiting for some where that is wished. */
export function leaseJobs(
  { pull, waiters }: Actions,
  defaultLeaseSeconds: number,
  limits: WaitLimits,
  isLeaving: () => boolean,
): Route<{ Body: LeaseRequest }> {
  return {
    config: { headers: ['Prefer'] },
    schema: {
      operationId: 'leaseJobs',
      summary: 'Lease jobs to run',
      description: 'With `Prefer: wait=N` it waits up to N seconds for a job.',
      tags: ['leases'],
      body: LeaseRequest,
      response: {
        200: {
          description: 'The jobs handed out; none when there was nothing in time.',
          headers: { 'Preference-Applied': { type: 'string', description: 'The wait that was honoured.' } },
          content: { 'application/json': { schema: LeaseList } },
        },
        ...refusals(...bodyFaults, ...storeFaults, 'sync-capacity'),
      },
    },
    async handler(request, reply) {
      const { lease_seconds = defaultLeaseSeconds, ...ask } = request.body;
      if (isLeaving())
        throw new Problem('draining', { detail: 'this server is stopping; lease from another one' });
      const wish = wishedWait(request, limits);
      const waits = wish.ms > 0 && hasRoom(waiters);
      const gone = departure(reply);
      const leased = await pull.lease({ ...ask, lease_seconds, wait_ms: waits ? wish.ms : 0, signal: gone });
      if (gone.aborted) {
        await Promise.allSettled(leased.map((job) => pull.release(job.lease_id, 0)));
        return sendNobody(reply);
      }
      // An empty answer at once would make a worker that wished to wait ask again in a loop.
      if (leased.length === 0 && wish.ms > 0 && !waits) waiters.admit();
      if (wish.applied !== null) reply.header('preference-applied', wish.applied);
      return sendJson(reply, 200, leasesText(leased));
    },
  };
}

/** `POST /v1/leases/{id}/heartbeat`: extends a lease, counted from now. */
export function heartbeat(
  { pull }: Actions,
  defaultLeaseSeconds: number,
  isDraining: () => boolean,
): Route<{ Params: LeaseParams; Body: Heartbeat }> {
  return {
    schema: {
      operationId: 'heartbeatLease',
      summary: 'Keep a lease',
      tags: ['leases'],
      params: LeaseParams,
      body: Heartbeat,
      response: {
        200: {
          description: 'The lease stands.',
          content: { 'application/json': { schema: LeaseExtension } },
        },
        ...leaseFaults,
      },
    },
    async handler({ params, body }, reply) {
      refuseLarge('#/progress', body.progress, most_report_bytes);
      const extension = await extensionOf(pull, params.id, body, defaultLeaseSeconds, isDraining);
      return sendJson(reply, 200, JSON.stringify(extension));
    },
  };
}

/** Extends a lease, and says how it stands. */
export async function extensionOf(
  pull: Actions['pull'],
  lease_id: string,
  { lease_seconds, progress }: Heartbeat,
  defaultLeaseSeconds: number,
  isDraining: () => boolean,
) {
  const { until, cancel_requested } = await pull.heartbeat(lease_id, lease_seconds ?? defaultLeaseSeconds);
  if (progress !== undefined) await pull.report(lease_id, { progress: progress.text });
  return { expires_at: until.toISOString(), cancel_requested, draining: isDraining() };
}

/** `PUT /v1/leases/{id}/progress`: says how far the work is, for whoever watches the job. */
export function reportProgress({ pull }: Actions): Route<{ Params: LeaseParams; Body: RawJson }> {
  return {
    schema: {
      operationId: 'reportProgress',
      summary: 'Report progress',
      description:
        'Any JSON value of at most 64 KiB. By convention `{"current", "total", "message"}`; it is shown with the job.',
      tags: ['leases'],
      params: LeaseParams,
      body: JsonValue,
      response: reported,
    },
    async handler({ params, body }, reply) {
      await pull.report(params.id, { progress: body.text });
      return reply.code(204).send();
    },
  };
}

/** `PUT /v1/leases/{id}/checkpoint`: keeps what the next start of the job can go on from. */
export function reportCheckpoint({ pull }: Actions): Route<{ Params: LeaseParams; Body: RawJson }> {
  return {
    schema: {
      operationId: 'reportCheckpoint',
      summary: 'Keep a checkpoint',
      description: 'Any JSON value of at most 64 KiB. The next start of the job gets it with its lease.',
      tags: ['leases'],
      params: LeaseParams,
      body: JsonValue,
      response: reported,
    },
    async handler({ params, body }, reply) {
      await pull.report(params.id, { checkpoint: body.text });
      return reply.code(204).send();
    },
  };
}

const reported = { 204: { description: 'It is kept.' }, ...leaseFaults };

/** `POST /v1/leases/{id}/complete`: ends a job with success; repeated, it answers the same. */
export function complete({ pull, inspect }: Actions): Route<{ Params: LeaseParams; Body: Completion }> {
  return {
    schema: {
      operationId: 'completeLease',
      summary: 'Complete a job',
      tags: ['leases'],
      params: LeaseParams,
      body: Completion,
      response: {
        200: {
          description: 'The job has succeeded; so it is answered to a repeated call too.',
          headers: { ETag: { type: 'string', description: 'The present state of the job.' } },
          content: { 'application/json': { schema: Job } },
        },
        ...leaseFaults,
      },
    },
    async handler({ params, body }, reply) {
      const id = await pull.complete(params.id, completionOf(body));
      return sendRecord(reply, 200, await existing(inspect, id));
    },
  };
}

/** A completion as the protocol takes it. */
export function completionOf({ result, created }: Completion) {
  return { result: result?.text ?? null, created_uri: created ?? null };
}

/** `POST /v1/leases/{id}/fail`: ends an attempt; the job is tried again or is dead. */
export function fail(actions: Actions): Route<{ Params: LeaseParams; Body: Failure }> {
  return {
    schema: {
      operationId: 'failLease',
      summary: 'Fail an attempt',
      tags: ['leases'],
      params: LeaseParams,
      body: Failure,
      response: attemptEnded,
    },
    async handler({ params, body }, reply) {
      const settled = await actions.pull.fail(params.id, failingOf(body));
      return sendJson(reply, 200, JSON.stringify(await attemptEndOf(actions, settled)));
    },
  };
}

/** A failure as the protocol takes it. */
export function failingOf(failure: Failure): Failing {
  const { message, retry_after_seconds, place } = failure;
  return {
    class: failure.class,
    message: message ?? null,
    retry_after_seconds: retry_after_seconds ?? null,
    place,
  };
}

/** `POST /v1/leases/{id}/release`: gives a job back; the attempt does not count. */
export function release(actions: Actions): Route<{ Params: LeaseParams; Body: Release }> {
  return {
    schema: {
      operationId: 'releaseLease',
      summary: 'Give a job back unrun',
      tags: ['leases'],
      params: LeaseParams,
      body: Release,
      response: attemptEnded,
    },
    async handler({ params, body }, reply) {
      const settled = await actions.pull.release(params.id, body.delay_seconds);
      return sendJson(reply, 200, JSON.stringify(await attemptEndOf(actions, settled)));
    },
  };
}

/** `POST /v1/leases/{id}/snooze`: the job runs again later; the attempt does not count. */
export function snooze(actions: Actions): Route<{ Params: LeaseParams; Body: SnoozeWish }> {
  return {
    schema: {
      operationId: 'snoozeLease',
      summary: 'Run the job later',
      description:
        'The job itself wants to run later: the attempt does not count, and the history says `snoozed`.',
      tags: ['leases'],
      params: LeaseParams,
      body: SnoozeWish,
      response: attemptEnded,
    },
    async handler({ params, body }, reply) {
      const settled = await actions.pull.snooze(params.id, body.delay_seconds);
      return sendJson(reply, 200, JSON.stringify(await attemptEndOf(actions, settled)));
    },
  };
}

const attemptEnded = {
  200: { description: 'What became of the job.', content: { 'application/json': { schema: AttemptEnd } } },
  ...leaseFaults,
};

/** The body of an answer that hands out jobs. Names and ids hold nothing that JSON escapes; see domain/record.ts. */
function leasesText(jobs: readonly Leased[]): string {
  const times = new Map<Date, string>();
  // Jobs of a lease share their dates.
  const timeText = (time: Date): string => {
    const known = times.get(time);
    if (known !== undefined) return known;
    const made = time.toISOString();
    times.set(time, made);
    return made;
  };
  return `{"leases":[${jobs.map((job) => leaseText(job, timeText)).join(',')}]}`;
}

function leaseText(job: Leased, timeText: (time: Date) => string): string {
  return (
    `{"id":"${job.lease_id}","epoch":${job.epoch},"attempt":${job.attempt},"expires_at":"${timeText(job.until)}",` +
    `"deadline":"${timeText(job.deadline)}","checkpoint":${job.checkpoint ?? 'null'},"job":${jobText(job, timeText)}}`
  );
}

function jobText(job: Leased, timeText: (time: Date) => string): string {
  // From 10 on the same priorities stand for jobs suspected of ending their worker.
  const text =
    `{"id":"${job.job_id}","queue":"${job.queue}","type":"${job.type}","priority":${job.prio % 10},` +
    `"max_attempts":${job.max_attempts},"created_at":"${timeText(job.created_at)}"${optionsText(job.options)}}`;
  return withPayload(text, job.payload, job.options);
}

function optionsText(options: Leased['options']): string {
  if (options === null) return '';
  const { schedule, content_type, traceparent, tracestate } = options;
  const text = JSON.stringify({ schedule, content_type, traceparent, tracestate });
  return text === '{}' ? '' : `,${text.slice(1, -1)}`;
}

/** What is told of a job after a failure or a release. */
export async function attemptEndOf({ inspect }: Actions, settled: { job_id: string; next_at: Date | null }) {
  const { id, state } = await existing(inspect, settled.job_id);
  return { id, state, next_attempt_at: settled.next_at?.toISOString() ?? null };
}
