// A pull worker: leases jobs, keeps the leases alive while functions run them, tells how each ended, and leaves in order.
// Invariants: at most `slots` jobs at once; what comes of a lease that is lost is dropped, for somebody else has the job
// now; what is held when the worker stops and does not end in time is given back, without costing an attempt.
// Next room: errand.ts, the other side; docs/guides/pull-workers.md.
import { type Caller, pause } from './call.ts';
import type { Errand } from './errand.ts';
import { ErrandProblem } from './problem.ts';
import type { Answer, Body, Lease } from './shapes.ts';

/** What a function is told of the start it runs. */
export interface Run<Payload = unknown> {
  payload: Payload;
  id: string;
  queue: string;
  type: string;
  attempt: number;
  max_attempts: number;
  /** The number of this start: write it with your effects to refuse those of an older one. */
  epoch: number;
  /** What the last start kept; null: nothing. */
  checkpoint: unknown;
  /** Aborts when the job is to be cancelled, the lease is lost, or the worker stops and cannot wait longer. */
  signal: AbortSignal;
  /** Shows how far the work is. */
  progress(value: unknown): Promise<void>;
  /** Keeps what the next start needs to go on. */
  keep(checkpoint: unknown): Promise<void>;
}

/** Runs a job; what it returns is the result (JSON), undefined: none. */
// biome-ignore lint/suspicious/noExplicitAny: whoever writes a handler says what its payload is, and checks it.
export type Handler = (payload: any, run: Run) => unknown;

export interface WorkerOptions {
  /** Functions by the type of job they run; a type may end in `*`. */
  handlers: Readonly<Record<string, Handler>>;
  /** Names, or beginnings followed by `*`; default: all. */
  queues?: readonly string[];
  /** Who works; shown with the job. Give each process its own. */
  name?: string;
  /** Jobs at once; default 1. */
  slots?: number;
  /** How long a lease stands without a heartbeat; default 30. */
  leaseSeconds?: number;
  /** How long running jobs may go on after `stop`; default 10. */
  stopSeconds?: number;
  /** Told of every job that ended here, and of errors nobody else is told of. */
  onEnd?: (run: Run, how: 'complete' | 'fail' | 'release' | 'lost', error?: unknown) => void;
}

type FailureClass = NonNullable<Body<'failLease'>['class']>;

/** Thrown by a handler to say what kind of failure it is; any other error is retryable. */
export class JobFailed extends Error {
  override readonly name = 'JobFailed';
  readonly class: FailureClass;
  readonly retryAfterSeconds: number | undefined;

  constructor(failure: FailureClass, message: string, options: { retryAfterSeconds?: number } = {}) {
    super(message);
    this.class = failure;
    this.retryAfterSeconds = options.retryAfterSeconds;
  }
}

/** How long one call waits for a job, in seconds. */
const poll_seconds = 20;
/** A message may have 4,000 characters. */
const longest_message = 1_000;

class Abort extends Error {
  readonly why: 'cancel' | 'lost' | 'stop';

  constructor(why: 'cancel' | 'lost' | 'stop') {
    const said = {
      cancel: 'the job is to be cancelled',
      lost: 'the lease is lost',
      stop: 'the worker stops',
    };
    super(said[why]);
    this.why = why;
  }
}

/** The loop of a pull worker. */
export class Worker {
  readonly #caller: Caller;
  readonly #options: Required<Omit<WorkerOptions, 'onEnd'>> & Pick<WorkerOptions, 'onEnd'>;
  readonly #stopping = new AbortController();
  readonly #runs = new Map<Promise<void>, AbortController>();

  constructor(errand: Errand, options: WorkerOptions) {
    const name = `worker-${Math.random().toString(36).slice(2, 10)}`;
    this.#caller = errand.caller;
    this.#options = { queues: [], name, slots: 1, leaseSeconds: 30, stopSeconds: 10, ...options };
  }

  /** Works until `stop`; throws when the service refuses to hand out jobs. */
  async run(): Promise<void> {
    const { signal } = this.#stopping;
    try {
      while (!signal.aborted) {
        for (const lease of await this.#lease(signal)) {
          if (signal.aborted) await this.#tell(lease, { how: 'release', json: {} });
          else this.#begin(lease);
        }
        if (this.#runs.size >= this.#options.slots) await Promise.race(this.#runs.keys());
      }
    } catch (error) {
      if (!signal.aborted) throw error;
    } finally {
      await this.#finish();
    }
  }

  /** Takes no more jobs; `run` ends when those that run have ended or were given back. */
  stop(): void {
    this.#stopping.abort(new Abort('stop'));
  }

  async #lease(signal: AbortSignal): Promise<Lease[]> {
    const { name, queues, handlers, slots, leaseSeconds } = this.#options;
    const json: Body<'leaseJobs'> = {
      worker: name,
      queues: [...queues],
      types: Object.keys(handlers),
      limit: slots - this.#runs.size,
      lease_seconds: leaseSeconds,
    };
    const headers = { Prefer: `wait=${poll_seconds}` };
    const poll = new AbortController();
    const leave = () => poll.abort(signal.reason);
    signal.addEventListener('abort', leave);
    const request = {
      method: 'POST',
      json,
      headers,
      signal: poll.signal,
      seconds: poll_seconds + 15,
    } as const;
    try {
      const ask = () => this.#caller.send('/v1/leases', request);
      // However long the service is away, a worker waits for it.
      const answer = await this.#caller.repeat(ask, poll.signal, Number.POSITIVE_INFINITY);
      // From here on there may be jobs in our hands: they must be read, to be run or given back.
      signal.removeEventListener('abort', leave);
      return ((await answer.json()) as Answer<'leaseJobs', 200>).leases;
    } finally {
      signal.removeEventListener('abort', leave);
    }
  }

  #begin(lease: Lease): void {
    const controller = new AbortController();
    const running = this.#runOne(lease, controller).finally(() => this.#runs.delete(running));
    this.#runs.set(running, controller);
  }

  async #runOne(lease: Lease, controller: AbortController): Promise<void> {
    const over = new AbortController();
    const beats = this.#keepAlive(lease, controller, over.signal);
    const run = this.#runOf(lease, controller.signal);
    let ending: Ending;
    try {
      const result = await this.#handlerOf(lease)(run.payload, run);
      ending = { how: 'complete', json: result === undefined ? {} : { result } };
    } catch (error) {
      ending = endingOf(error, controller.signal);
    }
    const how = isLost(controller.signal) ? 'lost' : await this.#tell(lease, ending);
    over.abort();
    await beats;
    this.#options.onEnd?.(run, how, ending.error);
  }

  #handlerOf({ job: { type } }: Lease): Handler {
    const { handlers } = this.#options;
    const fits = (name: string) => name.endsWith('*') && type.startsWith(name.slice(0, -1));
    const name = Object.hasOwn(handlers, type) ? type : Object.keys(handlers).find(fits);
    return handlers[name ?? ''] as Handler;
  }

  #runOf(lease: Lease, signal: AbortSignal): Run {
    const { id, queue, type, max_attempts, payload } = lease.job;
    const put = async (what: string, json: unknown) => {
      await this.#caller.persist(`${pathOf(lease)}/${what}`, { method: 'PUT', json, signal });
    };
    return {
      ...{ id, queue, type, max_attempts, payload, signal },
      attempt: lease.attempt,
      epoch: lease.epoch,
      checkpoint: lease.checkpoint ?? null,
      progress: (value) => put('progress', value),
      keep: (checkpoint) => put('checkpoint', checkpoint),
    };
  }

  /** Says three times per lease that the job is in hand, and aborts it when it no longer is. */
  async #keepAlive(lease: Lease, controller: AbortController, over: AbortSignal): Promise<void> {
    const { leaseSeconds } = this.#options;
    let confirmed = performance.now();
    while (await isQuiet((leaseSeconds * 1_000) / 3, over)) {
      try {
        const json: Body<'heartbeatLease'> = { lease_seconds: leaseSeconds };
        const request = { method: 'POST', json, signal: over, seconds: leaseSeconds / 3 } as const;
        const answer = await this.#caller.send(`${pathOf(lease)}/heartbeat`, request);
        confirmed = performance.now();
        const { cancel_requested } = (await answer.json()) as Answer<'heartbeatLease', 200>;
        if (cancel_requested) controller.abort(new Abort('cancel'));
      } catch (error) {
        if (over.aborted) return;
        // Without a confirmation for the length of the lease, somebody else may run the job already.
        const isSilent = performance.now() - confirmed > leaseSeconds * 1_000;
        if (isSilent || isLeaseLost(error)) controller.abort(new Abort('lost'));
      }
    }
  }

  /** Tells how a start ended, as often as it takes: after its success the same call succeeds again. */
  async #tell(lease: Lease, { how, json }: Ending): Promise<Ending['how'] | 'lost'> {
    try {
      await this.#caller.persist(`${pathOf(lease)}/${how}`, { method: 'POST', json });
      return how;
    } catch (error) {
      if (isLeaseLost(error)) return 'lost';
      // A result that cannot be kept, too large for example: the same work would bring it again.
      if (how === 'complete' && error instanceof ErrandProblem && error.status < 500) {
        return this.#tell(lease, failing('permanent', `the result was refused: ${error.message}`, error));
      }
      // Nobody answers: the lease runs out, and the job is run again.
      return 'lost';
    }
  }

  async #finish(): Promise<void> {
    const all = Promise.allSettled(this.#runs.keys());
    const patience = new AbortController();
    const late = pause(this.#options.stopSeconds * 1_000, patience.signal).then(
      () => {
        for (const controller of this.#runs.values()) controller.abort(new Abort('stop'));
      },
      () => {},
    );
    await all;
    patience.abort();
    await late;
  }
}

interface Ending {
  how: 'complete' | 'fail' | 'release';
  json: Body<'completeLease'> | Body<'failLease'> | Body<'releaseLease'>;
  error?: unknown;
}

function endingOf(error: unknown, signal: AbortSignal): Ending {
  // Of a job that is to be cancelled, giving it back is the consent.
  if (signal.aborted) return { how: 'release', json: {}, error };
  if (!(error instanceof JobFailed)) return failing('retryable', String(error), error);
  return failing(error.class, error.message, error, error.retryAfterSeconds);
}

function failing(
  failure: FailureClass,
  message: string,
  error: unknown,
  retry_after_seconds?: number,
): Ending {
  const after = retry_after_seconds === undefined ? {} : { retry_after_seconds };
  const json: Body<'failLease'> = { class: failure, message: message.slice(0, longest_message), ...after };
  return { how: 'fail', json, error };
}

function pathOf({ id }: Lease): string {
  return `/v1/leases/${encodeURIComponent(id)}`;
}

function isLost({ reason }: AbortSignal): boolean {
  return reason instanceof Abort && reason.why === 'lost';
}

function isLeaseLost(error: unknown): boolean {
  return error instanceof ErrandProblem && error.code === 'lease-lost';
}

/** Waits; false when the signal aborted meanwhile. */
async function isQuiet(ms: number, signal: AbortSignal): Promise<boolean> {
  return pause(ms, signal).then(
    () => true,
    () => false,
  );
}
