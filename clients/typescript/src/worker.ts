// A pull worker: leases jobs, keeps the leases alive while functions run them, tells how each ended, and leaves in order.
// Invariants: at most `slots` jobs at once; what comes of a lease that is lost is dropped, for somebody else has the job
// now; what is held when the worker stops and does not end in time is given back, without costing an attempt.
// Next room: ending.ts, how a start ended; errand.ts, the other side; docs/guides/pull-workers.md.
import { type Caller, held_ms, pause } from './call.ts';
import { type Ending, endingOf, insteadOf, succeeding } from './ending.ts';
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
  /** Jobs at once, at most 1,000; default 1. */
  slots?: number;
  /** How long a lease stands without a heartbeat; default 30. */
  leaseSeconds?: number;
  /** How long running jobs may go on after `stop`; default 10. */
  stopSeconds?: number;
  /** How payloads and checkpoints are read; default JSON.parse, which rounds whole numbers beyond 2^53. */
  parse?: (json: string) => unknown;
  /** Told of every job that ended here, with the error that ended it, or for which nobody was told of its end (`lost`). */
  onEnd?: (run: Run, how: 'complete' | 'fail' | 'release' | 'lost', error?: unknown) => void;
}

/** How long one call waits for a job, in seconds. */
const poll_seconds = 20;

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
  readonly #held = new Map<Promise<void>, Held>();

  constructor(errand: Errand, options: WorkerOptions) {
    const name = `worker-${Math.random().toString(36).slice(2, 10)}`;
    this.#caller = errand.caller;
    const defaults = { queues: [], name, slots: 1, leaseSeconds: 30, stopSeconds: 10, parse: JSON.parse };
    this.#options = { ...defaults, ...options };
  }

  /** Works until `stop`; throws when the service refuses to hand out jobs. */
  async run(): Promise<void> {
    const { signal } = this.#stopping;
    const stopped = new Promise<void>((resolve) => signal.addEventListener('abort', () => resolve()));
    const over = new AbortController();
    const beats = this.#keepAlive(over.signal);
    try {
      while (!signal.aborted) {
        const began = performance.now();
        const leases = await this.#lease(signal);
        for (const lease of leases) {
          if (signal.aborted) await this.#tell(lease, { how: 'release', json: {}, error: undefined });
          else this.#begin(lease);
        }
        // Where the wish to wait is lost on the way, nobody must be asked in a loop.
        const isUnheld = leases.length === 0 && performance.now() - began < held_ms;
        if (isUnheld) await pause(held_ms, signal);
        if (this.#held.size >= this.#options.slots) await Promise.race([stopped, ...this.#held.keys()]);
      }
    } catch (error) {
      if (!signal.aborted) throw error;
    } finally {
      await this.#finish();
      over.abort();
      await beats;
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
      limit: slots - this.#held.size,
      lease_seconds: leaseSeconds,
    };
    const headers = { Prefer: `wait=${poll_seconds}` };
    const poll = new AbortController();
    const leave = () => poll.abort(signal.reason);
    const request = {
      method: 'POST',
      json,
      headers,
      signal: poll.signal,
      seconds: poll_seconds + 15,
    } as const;
    const ask = async () => {
      signal.throwIfAborted();
      signal.addEventListener('abort', leave);
      const answer = await this.#caller.send('/v1/leases', request);
      // From here on there may be jobs in our hands: they must be read, to be run or given back.
      signal.removeEventListener('abort', leave);
      return answer.text();
    };
    try {
      // However long the service is away, a worker waits for it.
      const text = await this.#caller.repeat(ask, poll.signal, Number.POSITIVE_INFINITY);
      return (this.#options.parse(text) as Answer<'leaseJobs', 200>).leases;
    } finally {
      signal.removeEventListener('abort', leave);
    }
  }

  #begin(lease: Lease): void {
    const controller = new AbortController();
    const running = this.#runOne(lease, controller.signal).finally(() => this.#held.delete(running));
    this.#held.set(running, { lease, controller, confirmed: performance.now() });
  }

  async #runOne(lease: Lease, signal: AbortSignal): Promise<void> {
    const run = this.#runOf(lease, signal);
    let ending: Ending;
    try {
      ending = succeeding(await this.#handlerOf(lease)(run.payload, run));
    } catch (error) {
      ending = endingOf(error, signal);
    }
    const { how, error } = isLost(signal)
      ? { ...ending, how: 'lost' as const }
      : await this.#tell(lease, ending);
    this.#options.onEnd?.(run, how, error);
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

  /** Says three times per lease, for all jobs in one call, that they are in hand, and stops those that no longer are. */
  async #keepAlive(over: AbortSignal): Promise<void> {
    const { leaseSeconds } = this.#options;
    const each_ms = (leaseSeconds * 1_000) / 3;
    while (await isQuiet(each_ms, over)) {
      const held = [...this.#held.values()];
      if (held.length === 0) continue;
      const leases = held.map(({ lease: { id } }) => ({ id, lease_seconds: leaseSeconds }));
      const sent = performance.now();
      const request = { method: 'POST', json: { leases }, signal: over, seconds: leaseSeconds / 3 } as const;
      const entries = await this.#caller
        .send('/v1/leases/heartbeat', request)
        .then(async (answer) => ((await answer.json()) as Answer<'heartbeatLeases', 200>).leases)
        .catch(() => []);
      for (const [i, one] of held.entries()) judge(one, entries[i], sent, leaseSeconds * 1_000);
    }
  }

  /** Tells how a start ended, as often as it takes: after its success the same call succeeds again. */
  async #tell(lease: Lease, ending: Ending): Promise<Told> {
    const { how, json, error } = ending;
    try {
      await this.#caller.persist(`${pathOf(lease)}/${how}`, { method: 'POST', json });
      return { how, error };
    } catch (refusal) {
      if (isLeaseLost(refusal)) return { how: 'lost', error };
      const instead = insteadOf(ending, refusal);
      if (instead !== null) return this.#tell(lease, instead);
      // Nobody takes it: the lease runs out, and the job is run again.
      return { how: 'lost', error: refusal };
    }
  }

  async #finish(): Promise<void> {
    const all = Promise.allSettled(this.#held.keys());
    const patience = new AbortController();
    const late = pause(this.#options.stopSeconds * 1_000, patience.signal).then(
      () => {
        for (const { controller } of this.#held.values()) controller.abort(new Abort('stop'));
      },
      () => {},
    );
    await all;
    patience.abort();
    await late;
  }
}

/** A job in hand. */
interface Held {
  lease: Lease;
  controller: AbortController;
  /** When the last call went out that was answered with a standing lease, on the monotonic clock. */
  confirmed: number;
}

type Entry = Answer<'heartbeatLeases', 200>['leases'][number];

/** Draws from the answer to a heartbeat what it means for the job; without an answer, time decides. */
function judge(held: Held, entry: Entry | undefined, sent: number, lease_ms: number): void {
  const isRefused = entry !== undefined && 'problem' in entry;
  if (entry !== undefined && !isRefused) held.confirmed = sent;
  // Without a confirmation for the length of the lease, somebody else may run the job already.
  const isSilent = performance.now() - held.confirmed > lease_ms;
  if (isSilent || (isRefused && entry.problem.code === 'lease-lost'))
    held.controller.abort(new Abort('lost'));
  else if (entry !== undefined && 'cancel_requested' in entry && entry.cancel_requested) {
    held.controller.abort(new Abort('cancel'));
  }
}

/** What became of an ending. */
interface Told {
  how: Ending['how'] | 'lost';
  error: unknown;
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
