// Why a job is where it is: every cause that keeps it from its next step, what would release it, the decisive one first.
// Invariant: nothing is said that was not seen in one look; causes that hold at once are all told, so that nobody pulls one
// lever to learn of the next.
// Next room: actions/why.ts, which looks; http/why.ts, which shows it.
import type { JobState } from './job.ts';
import type { ErrorClass } from './outcome.ts';
import { isHeldAlone } from './suspicion.ts';

/** Every cause there is. */
export const causes = [
  'ended',
  'running',
  'cancel_requested',
  'lease_ran_out',
  'scheduled',
  'backing_off',
  'blocked',
  'held',
  'queue_paused',
  'type_paused',
  'no_worker',
  'suspect',
  'workers_busy',
  'behind_others',
  'ready',
] as const;

export type Cause = (typeof causes)[number];

/** One cause: what it is, and what would end it. */
export interface Reason {
  readonly cause: Cause;
  readonly detail: string;
  readonly release: string;
  /** When it ends by itself, where that is known. */
  readonly until?: Date;
  /** The job it waits for, or the operation that holds it. */
  readonly job_id?: string;
  readonly operation_id?: string;
}

/** What was seen of a job in one look. */
export interface Standing {
  readonly now: Date;
  readonly id: string;
  readonly state: JobState;
  readonly queue: string;
  readonly type: string;
  readonly attempt: number;
  readonly max_attempts: number;
  readonly cancel_requested: boolean;
  readonly error: { readonly class: ErrorClass | null; readonly detail: string | null } | null;
  /** Where it waits for a moment. */
  readonly due: Date | null;
  /** The start under way. */
  readonly lease: {
    readonly worker: string | null;
    readonly started_at: Date;
    readonly until: Date;
    readonly deadline: Date;
  } | null;
  /** Where it stands in line; `ahead` counts its own line, `urgent` those of more urgent jobs, both up to a bound. */
  readonly line: {
    readonly prio: number;
    readonly ahead: number;
    readonly urgent: number;
    readonly is_bound: boolean;
  } | null;
  /** The job whose end it waits for. */
  readonly blocked_on: string | null;
  /** The operation that took it out of its line until it is undone or done. */
  readonly held_by: string | null;
  readonly pauses: readonly Pause[];
  /** Who on duty takes its kind, with how many jobs at once, and how many those hold now. */
  readonly takers: { readonly workers: number; readonly slots: number; readonly running: number };
}

export interface Pause {
  /** What is paused: the queue, or the type in it alone. */
  readonly of: 'queue' | 'type';
  readonly since: Date;
  readonly until: Date | null;
  readonly reason: string | null;
}

/** Says why, by one reason at least. */
export function whyOf(job: Standing): Reason[] {
  switch (job.state) {
    case 'succeeded':
    case 'dead':
    case 'cancelled':
    case 'expired':
      return [ended(job)];
    case 'running':
      return running(job);
    case 'scheduled':
    case 'retrying':
      return [waiting(job), ...levers(job)];
    case 'blocked':
      return [blocked(job), ...levers(job)];
    case 'queued':
      return queued(job);
  }
}

function ended({ id, state, error }: Standing): Reason {
  const why =
    state === 'succeeded' || error === null
      ? ''
      : `: ${error.detail ?? error.class ?? 'no reason was given'}`;
  return {
    cause: 'ended',
    detail: `the job is ${state}${why}`,
    release:
      state === 'succeeded'
        ? 'nothing: it is done'
        : `nothing moves it any more; POST /v1/jobs/${id}/retry makes a new job of it`,
  };
}

function running({ now, lease, cancel_requested }: Standing): Reason[] {
  const worker = lease?.worker ?? 'a worker';
  if (lease !== null && lease.until <= now) {
    return [
      {
        cause: 'lease_ran_out',
        detail: `${worker} stopped renewing its lease at ${lease.until.toISOString()}`,
        release: 'the next rescue, within a second or two, ends this start and puts the job back',
      },
    ];
  }
  const reasons: Reason[] = cancel_requested
    ? [
        {
          cause: 'cancel_requested',
          detail: `${worker} was asked to stop and has not said yet how the job ended`,
          release: 'the worker’s answer, or the end of its lease',
        },
      ]
    : [];
  const runs: Reason = {
    cause: 'running',
    detail: `${worker} runs it${lease === null ? '' : ` since ${lease.started_at.toISOString()}`}`,
    release: 'its completion, its failure, or its deadline',
    ...(lease === null ? {} : { until: lease.deadline }),
  };
  return [...reasons, runs];
}

function waiting({ id, state, due, attempt, max_attempts, error }: Standing): Reason {
  const until = due === null ? {} : { until: due };
  if (state === 'scheduled') {
    return {
      cause: 'scheduled',
      detail: `it is not to start before ${due?.toISOString() ?? 'its moment'}`,
      release: 'that moment; PATCH run_at moves it, null makes it due now',
      ...until,
    };
  }
  const last = error?.detail ?? error?.class ?? 'no reason was given';
  return {
    cause: 'backing_off',
    detail: `attempt ${attempt} of ${max_attempts} failed (${last}); the next is due at ${due?.toISOString() ?? 'its moment'}`,
    release: `that moment; POST /v1/jobs/${id}/retry makes it due now`,
    ...until,
  };
}

function blocked({ blocked_on }: Standing): Reason {
  return {
    cause: 'blocked',
    detail: `job ${blocked_on ?? 'before it'} holds its unique key`,
    release:
      'the end of that job, however it ends; what fell due beside it waits for its window_seconds, too',
    ...(blocked_on === null ? {} : { job_id: blocked_on }),
  };
}

/** What operators have set that would keep it from starting. */
function levers({ queue, type, pauses, held_by }: Standing): Reason[] {
  const reasons: Reason[] = [];
  if (held_by !== null) {
    reasons.push({
      cause: 'held',
      detail: `operation ${held_by} marked it to be cancelled`,
      release: `POST /v1/operations/${held_by}/undo puts it back until the undo window ends; then it is cancelled`,
      operation_id: held_by,
    });
  }
  for (const pause of pauses) {
    const whole = pause.of === 'queue';
    reasons.push({
      cause: whole ? 'queue_paused' : 'type_paused',
      detail: `${whole ? '' : `type ${type} of `}queue ${queue} ${pausedText(pause)}`,
      release: `POST /v1/queues/${queue}/resume${whole ? '' : ` {"types":["${type}"]}`}${pause.until === null ? '' : ', or that moment'}`,
      ...(pause.until === null ? {} : { until: pause.until }),
    });
  }
  return reasons;
}

function queued(job: Standing): Reason[] {
  const { queue, type, line, takers } = job;
  const reasons = levers(job);
  if (takers.workers === 0) {
    reasons.push({
      cause: 'no_worker',
      detail: `nobody heard of within the last minute takes type ${type} of queue ${queue}`,
      release:
        'a pull worker that asks for it, or a process with a handler for it; GET /v1/workers lists who takes what',
    });
  } else if (takers.running >= takers.slots) {
    reasons.push({
      cause: 'workers_busy',
      detail: `all ${takers.slots} places of the ${takers.workers} that take it are taken`,
      release: 'the end of one of their jobs, or another worker',
    });
  }
  if (line !== null && isHeldAlone(line.prio)) {
    reasons.push({
      cause: 'suspect',
      detail:
        'its last two starts ended with the loss of the process that ran it, so it is run one such job at a time',
      release: 'the end of another such job that its worker holds',
    });
  }
  if (line !== null && line.ahead + line.urgent > 0) {
    reasons.push({
      cause: 'behind_others',
      detail: aheadText(line),
      release: 'their starts; PATCH priority moves it to another line',
    });
  }
  const ready: Reason = {
    cause: 'ready',
    detail: 'nothing keeps it from starting',
    release: 'the next look of a worker, within half a second or so',
  };
  return reasons.length > 0 ? reasons : [ready];
}

function aheadText({ ahead, urgent, is_bound }: NonNullable<Standing['line']>): string {
  const least = is_bound ? 'at least ' : '';
  const own = `${least}${ahead} ${ahead === 1 ? 'job stands' : 'jobs stand'} before it in its line`;
  if (urgent === 0) return own;
  const others = `${least}${urgent} more urgent ${urgent === 1 ? 'job goes' : 'jobs go'} first`;
  return ahead === 0 ? others : `${own}, and ${others}`;
}

function pausedText({ since, until, reason }: Pause): string {
  const end = until === null ? '' : ` until ${until.toISOString()}`;
  return `is paused since ${since.toISOString()}${end}${reason === null ? '' : `: ${reason}`}`;
}
