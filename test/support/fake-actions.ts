// Why this room exists: tests of the wire need the verbs, not a database. The jobs are kept in a Map, move only as real
// ones may, and a test scripts their end by the job type.
// Invariant: it answers what the real actions answer; the waiters and the watch are the real ones, over these jobs.
// Next room: serve.ts, which puts the API in front of it; fake-history.ts.
import { accepting } from '../../src/actions/accept.ts';
import type { Actions } from '../../src/actions/actions.ts';
import type { CancelAnswer } from '../../src/actions/cancel.ts';
import { estimating } from '../../src/actions/estimate.ts';
import { Guards } from '../../src/actions/guards.ts';
import type { Page } from '../../src/actions/list.ts';
import type { Leased } from '../../src/actions/pull.ts';
import { Statistics } from '../../src/actions/statistics.ts';
import type { Submission } from '../../src/actions/submit.ts';
import { Waiters } from '../../src/actions/wait.ts';
import { Watch } from '../../src/actions/watch.ts';
import { issueCursor, readCursor } from '../../src/domain/cursor.ts';
import { isTerminal, type JobEvent, type JobState, jobEtag, next } from '../../src/domain/job.ts';
import { type Filter, questionOf } from '../../src/domain/listing.ts';
import type { ErrorClass, ErrorSource } from '../../src/domain/outcome.ts';
import { Problem } from '../../src/domain/problem.ts';
import { unsetQueue } from '../../src/domain/queue-settings.ts';
import type { NamedFacts } from '../../src/domain/record.ts';
import type { History, StartFacts } from '../../src/domain/timeline.ts';
import { EventBus } from '../../src/events.ts';
import { endStart, historyOf, nextMark, statusOf, unended } from './fake-history.ts';

export interface FakeJob {
  facts: NamedFacts;
  payload: string;
  result: string | null;
  lease: string | null;
  /** Its starts, oldest first. */
  starts: StartFacts[];
  progress: History['progress'];
  checkpoint: History['checkpoint'];
}

/** What happens to a job of some type once it is stored. */
export type Script = (id: string) => void;

/** Jobs in memory, and the verbs over them. */
export class FakeJobs {
  readonly jobs = new Map<string, FakeJob>();
  readonly scripts = new Map<string, Script>();
  readonly calls: string[] = [];
  /** What was submitted, as the routes handed it over. */
  readonly submissions: Submission[] = [];
  readonly waiters: Waiters;
  readonly watch: Watch;
  /** Ids up to here have existed and are no longer kept. */
  gone = 0;
  /** Thrown by every read while it is set. */
  fault: Error | null = null;
  /** When set, `submit` and `lease` throw it. */
  refusal: Error | null = null;
  /** Awaited before a job is stored. */
  beforeStore: () => Promise<void> = async () => {};
  /** Awaited before jobs are handed out. */
  beforeGrant: () => Promise<void> = async () => {};
  #keys = new Map<string, { id: string; print: Buffer }>();
  #lastId = 1_000;
  #secret = Buffer.alloc(32, 1);
  /** Nothing is known of any queue, and none has limits. */
  #statistics = new Statistics({ db: { many: async () => [] }, tally: { queuedBy: () => 0 } });
  #guards = new Guards({
    levers: { settingsOf: () => unsetQueue },
    statistics: this.#statistics,
    events: new EventBus(),
  });

  constructor(most = 1_000, mostStreams = 1_000) {
    const onError = (error: unknown) => {
      throw error;
    };
    this.watch = new Watch({ look: async (ids) => this.#versions(ids), mostStreams, onError });
    this.waiters = new Waiters({
      // The only thing the waiters ask the database is which of these ids have ended.
      db: { many: async (_: unknown, [ids]: [string[]]) => this.#ended(ids) } as never,
      most,
      hinted: () => false,
      onError,
    });
  }

  /** What the server does first when it stops. */
  drain(): void {
    this.waiters.drain();
    this.watch.drain();
  }

  get stored(): number {
    return this.#lastId - 1_000;
  }

  get actions(): Actions {
    return {
      // Nothing is set of any queue.
      accept: accepting({
        levers: { ...unset, look: async () => {} },
        statistics: this.#statistics,
        hasLane: () => true,
        isKnown: async () => false,
        strict: false,
        cap_seconds: 25,
      }),
      submit: (submission) => this.#submit(submission),
      submitAll: (submissions) => Promise.all(submissions.map((one) => this.#submit(one))),
      inspect: {
        job: async (id) => {
          const job = this.#look(`job ${id}`).get(id);
          return job === undefined ? undefined : { ...job.facts };
        },
        awaited: async (id) => {
          const job = this.#look(`job ${id}`).get(id);
          return job === undefined ? undefined : { ...job.facts, result: job.result };
        },
        isGone: async (id) => BigInt(id) <= BigInt(this.gone),
        payload: async (id) => this.#look(`payload ${id}`).get(id)?.payload,
        result: async (id) => {
          const job = this.#look(`result ${id}`).get(id);
          return job?.facts.state === 'succeeded'
            ? { result: job.result, created_uri: job.facts.created_uri }
            : undefined;
        },
      },
      history: {
        read: async (id, since) => historyOf(this.#look(`history ${id}`).get(id), since),
        attempts: async (id) => {
          const { starts = [] } = this.#look(`attempts ${id}`).get(id) ?? {};
          return starts.filter(({ status, started_at }) => status !== null && started_at !== null).reverse();
        },
      },
      list: { page: async (filter, limit, cursor) => this.#page(filter, limit, cursor) },
      cancel: {
        cancel: async (id) => this.#cancel(id),
        cancelUnstarted: async (id) => this.#cancelUnstarted(id),
        expire: async () => ({ kind: 'absent' }),
      },
      change: {
        change: async () => ({ kind: 'absent' }),
        retry: async () => ({ kind: 'absent' }),
      },
      pull: {
        lease: (ask) => this.#lease(ask),
        heartbeat: async (lease_id, seconds) => {
          const { facts } = this.#held(lease_id);
          return {
            until: new Date(Date.now() + seconds * 1_000),
            cancel_requested: facts.cancel_requested,
          };
        },
        report: async (lease_id, { progress, checkpoint }) => {
          const { facts } = this.#held(lease_id);
          if (progress !== undefined) this.progress(facts.id, progress);
          if (checkpoint !== undefined) this.checkpoint(facts.id, checkpoint);
        },
        complete: async (lease_id, end) => {
          const { facts } = this.#held(lease_id, 'succeeded');
          this.succeed(facts.id, end.result, end.created_uri);
          return facts.id;
        },
        fail: async (lease_id, failing) => {
          const { facts } = this.#held(lease_id);
          const dead = failing.class === 'permanent' || failing.class === 'poison';
          const delay = failing.retry_after_seconds ?? 2;
          if (dead) this.die(facts.id, failing.class, 'worker', failing.message ?? undefined);
          else this.retry(facts.id, delay * 1_000);
          return this.#settled(facts, dead ? 'dead' : 'retry');
        },
        release: async (lease_id, delay_seconds) => {
          const { facts } = this.#held(lease_id);
          this.#move(facts.id, 'released');
          facts.next_at = new Date(Date.now() + delay_seconds * 1_000);
          if (delay_seconds > 0) facts.state = 'scheduled';
          return this.#settled(facts, 'released');
        },
        snooze: async (lease_id, delay_seconds) => {
          const { facts } = this.#held(lease_id);
          this.#move(facts.id, 'released');
          facts.next_at = new Date(Date.now() + delay_seconds * 1_000);
          facts.state = 'scheduled';
          return this.#settled(facts, 'snoozed');
        },
      },
      // Queues and schedules are kept by a database: their routes are tested on one.
      queues: {
        find: async () => undefined,
        page: async () => ({ items: [], next_cursor: null }),
        put: noQueues,
        patch: noQueues,
        remove: noQueues,
        pause: noQueues,
        resume: noQueues,
        drain: noQueues,
      },
      schedules: {
        now: async () => new Date(),
        find: async () => undefined,
        page: async () => ({ items: [], next_cursor: null }),
        put: async () => {
          throw new Problem('not-found', { detail: 'there are no schedules here' });
        },
        patch: async () => undefined,
        pause: async () => undefined,
        resume: async () => undefined,
        remove: async () => false,
      },
      trigger: async () => undefined,
      runs: async () => undefined,
      leader: async () => undefined,
      audit: async () => ({ items: [], next_cursor: null }),
      policyOf: () => unsetQueue.defaults,
      // Letters are kept by a database, too.
      deadLetters: {
        page: async () => ({ items: [], next_cursor: null }),
        groups: async () => ({ groups: [], looked: 0, exact: true }),
        walk: async () => ({ rows: [], rest: null }),
        decision: async () => ({ listed: true, discarded: false, redriven_as: null }),
        redrive: async (job_id) => ({ job_id, kind: 'no_letter' }),
        discard: async () => false,
      },
      statistics: this.#statistics,
      guards: this.#guards,
      // So are operations.
      operations: { page: async () => ({ items: [], next_cursor: null }) } as never,
      bulk: {} as never,
      dangerous: { page: async () => ({ items: [], next_cursor: null }) } as never,
      estimate: estimating({
        statistics: this.#statistics,
        levers: { pauseOf: () => null },
        random: () => Math.random(),
      }),
      latency: async () => [],
      roster: {
        hearing: (pull) => pull,
        page: async () => ({ items: [], next_cursor: null }),
        takers: async () => ({ workers: 0, slots: 0, running: 0 }),
        unserved: async () => [],
        write: async () => 0,
        leave: async () => {},
      },
      waiters: this.waiters,
      watch: this.watch,
      why: async () => undefined,
    };
  }

  /** Begins a start of the job. */
  start(id: string): void {
    if (/scheduled|retrying/.test(this.jobs.get(id)?.facts.state ?? '')) this.#move(id, 'due');
    const { facts, starts } = this.#move(id, 'claimed');
    const started = {
      epoch: facts.epoch + 1,
      attempt: facts.attempt + 1,
      started_at: new Date(),
      worker: 'w1',
    };
    Object.assign(facts, started);
    starts.push({ ...unended, ...started });
    this.watch.hear([id]);
  }

  /** Tells of progress, as the worker of the job does. */
  progress(id: string, progress: string): void {
    const job = this.jobs.get(id) as FakeJob;
    job.progress = nextMark(job, progress);
    Object.assign(job.facts, { progress, progress_seq: job.progress.seq });
    this.watch.hear([id]);
  }

  checkpoint(id: string, checkpoint: string): void {
    const job = this.jobs.get(id) as FakeJob;
    job.checkpoint = nextMark(job, checkpoint);
    this.watch.hear([id]);
  }

  succeed(id: string, result: string | null = null, created_uri: string | null = null): void {
    const job = this.jobs.get(id) as FakeJob;
    if (isTerminal(job.facts.state)) return;
    if (job.facts.state !== 'running') this.start(id);
    this.#move(id, 'completed');
    job.result = result;
    Object.assign(job.facts, { has_result: result !== null, created_uri });
  }

  die(id: string, errorClass: ErrorClass, source: ErrorSource, detail = 'it broke'): void {
    if (this.jobs.get(id)?.facts.state !== 'running') this.start(id);
    const { facts } = this.#move(id, 'spent');
    Object.assign(facts, { class: errorClass, source, error: detail });
  }

  /** Ends an attempt; the next one is due after `ms`. */
  retry(id: string, ms: number): void {
    if (this.jobs.get(id)?.facts.state !== 'running') this.start(id);
    const { facts } = this.#move(id, 'failed');
    facts.next_at = new Date(Date.now() + ms);
  }

  expire(id: string): void {
    this.#move(id, 'expired');
  }

  cancel(id: string): void {
    this.#move(id, this.jobs.get(id)?.facts.state === 'running' ? 'cancel_honoured' : 'cancelled');
  }

  /** A job that is there without having been submitted. */
  add(facts: Partial<NamedFacts> & { type: string }, payload = 'null', result: string | null = null): string {
    this.#lastId += 1;
    const id = String(this.#lastId);
    const job: FakeJob = {
      facts: { ...blank, created_at: new Date(), id, ...facts },
      payload,
      result,
      lease: null,
      starts: [],
      progress: null,
      checkpoint: null,
    };
    if (result !== null) job.facts.has_result = true;
    this.jobs.set(id, job);
    return id;
  }

  async #submit(submission: Submission) {
    this.calls.push('submit');
    this.submissions.push(submission);
    if (this.refusal !== null) throw this.refusal;
    await this.beforeStore();
    const key = submission.idempotency;
    const known = key === null ? undefined : this.#keys.get(`${key.route} ${key.key}`);
    if (key !== null && known !== undefined) {
      if (!known.print.equals(key.print)) {
        throw new Problem('idempotency-key-reused', { detail: 'the key was used with another request' });
      }
      return { replayed: true as const, id: known.id };
    }
    const { queue, type, priority, max_attempts, timeout_seconds, payload } = submission;
    const delay = submission.delay_ms === null ? null : new Date(Date.now() + submission.delay_ms);
    const run_at = submission.run_at === null ? delay : new Date(submission.run_at);
    const state = run_at !== null && run_at.getTime() > Date.now() ? 'scheduled' : 'queued';
    const tags = submission.tags === null ? null : [...submission.tags];
    const expires_at = submission.expires_at === null ? null : new Date(submission.expires_at);
    const facts = { queue, type, priority, max_attempts, timeout_seconds, run_at, expires_at, tags };
    const id = this.add({ ...facts, state: state as JobState }, payload);
    if (key !== null) this.#keys.set(`${key.route} ${key.key}`, { id, print: key.print });
    this.scripts.get(type)?.(id);
    const { created_at } = (this.jobs.get(id) as FakeJob).facts;
    return { replayed: false as const, id, created_at, run_at, state: state as 'queued' | 'scheduled' };
  }

  /** By id, whatever the state: the orders of the states are those of the storage. */
  #page(filter: Filter, limit: number, cursor?: string): Page {
    const question = questionOf(0, filter);
    const key = cursor === undefined ? ['9'.repeat(18)] : readCursor(cursor, question, this.#secret);
    if (key === null) throw new Problem('cursor-invalid', { detail: 'the cursor is not one of this list' });
    const fitting = [...this.#look('list').values()]
      .map(({ facts }) => facts)
      .filter((facts) => BigInt(facts.id) < BigInt(key[0] as string) && fits(facts, filter))
      .sort((a, b) => Number(b.id) - Number(a.id));
    const items = fitting.slice(0, limit);
    const last = fitting.length > limit ? items.at(-1) : undefined;
    return { items, next_cursor: last === undefined ? null : issueCursor([last.id], question, this.#secret) };
  }

  #cancelUnstarted(id: string): CancelAnswer {
    this.calls.push('cancelUnstarted');
    const facts = this.jobs.get(id)?.facts;
    if (facts === undefined) return { kind: 'absent' };
    if (isTerminal(facts.state)) return { kind: 'ended', state: facts.state };
    if (facts.epoch > 0) return { kind: 'started', state: facts.state };
    this.#move(id, 'cancelled');
    return { kind: 'taken' };
  }

  #cancel(id: string): CancelAnswer {
    this.calls.push('cancel');
    const facts = this.jobs.get(id)?.facts;
    if (facts === undefined) return { kind: 'absent' };
    if (isTerminal(facts.state)) return { kind: 'ended', state: facts.state };
    if (facts.state !== 'running') {
      this.#move(id, 'cancelled');
      return { kind: 'taken' };
    }
    facts.cancel_requested = true;
    return { kind: 'requested' };
  }

  async #lease(ask: Parameters<Actions['pull']['lease']>[0]): Promise<Leased[]> {
    if (this.refusal !== null) throw this.refusal;
    this.calls.push(`lease ${ask.worker} ${ask.wait_ms}`);
    await this.beforeGrant();
    const until = performance.now() + ask.wait_ms;
    for (;;) {
      const ready = [...this.jobs.values()].filter(
        ({ facts }) => facts.state === 'queued' && (ask.types.length === 0 || ask.types.includes(facts.type)),
      );
      const left = until - performance.now();
      if (ready.length > 0 || left <= 0)
        return ready.slice(0, ask.limit).map((job) => this.#grant(job, ask.lease_seconds));
      const over = await this.waiters.hold(null, Math.min(20, left), ask.signal);
      if (over === 'gone' || over === 'drained') return [];
    }
  }

  #grant(job: FakeJob, seconds: number): Leased {
    const { facts, payload } = job;
    this.start(facts.id);
    job.lease = `lse_${facts.id}_${facts.epoch}`;
    const started_at = facts.started_at as Date;
    return {
      lease: '1',
      lease_id: job.lease,
      job_id: facts.id,
      epoch: facts.epoch,
      attempt: facts.attempt,
      lane: 1,
      prio: facts.priority + 10,
      owner: 1,
      started_at,
      until: new Date(started_at.getTime() + seconds * 1_000),
      deadline: new Date(started_at.getTime() + facts.timeout_seconds * 1_000),
      max_attempts: facts.max_attempts,
      created_at: facts.created_at,
      wait_ms: 0,
      expired: false,
      retry_until: null,
      backoff: null,
      options: null,
      callback: false,
      checkpoint: job.checkpoint?.value ?? null,
      payload,
      queue: facts.queue,
      type: facts.type,
    };
  }

  #held(lease_id: string, repeatable?: JobState): FakeJob {
    const job = [...this.jobs.values()].find(({ lease }) => lease === lease_id);
    if (job?.facts.state === 'running' || (job !== undefined && job.facts.state === repeatable)) return job;
    throw new Problem('lease-lost', { detail: 'this lease does not stand any more' });
  }

  #settled(facts: NamedFacts, status: 'dead' | 'retry' | 'released' | 'snoozed') {
    return {
      job_id: facts.id,
      epoch: facts.epoch,
      status,
      next_at: isTerminal(facts.state) ? null : facts.next_at,
    };
  }

  #move(id: string, event: JobEvent): FakeJob {
    const job = this.jobs.get(id) as FakeJob;
    const to = next(job.facts.state, event);
    if (to === null) throw new Error(`a ${job.facts.state} job cannot be ${event}`);
    Object.assign(job.facts, { state: to, next_at: null });
    const status = statusOf[event];
    if (status !== undefined) endStart(job, status);
    if (isTerminal(to)) {
      Object.assign(job.facts, { finished_at: new Date(), cancel_requested: false });
      this.waiters.release([id]);
    }
    this.watch.hear([id]);
    return job;
  }

  #look(what: string): Map<string, FakeJob> {
    this.calls.push(what);
    if (this.fault !== null) throw this.fault;
    return this.jobs;
  }

  #versions(ids: readonly string[]) {
    return ids.flatMap((id) => {
      const job = this.jobs.get(id);
      return job === undefined ? [] : [{ id, version: `${jobEtag(job.facts)} ${job.checkpoint?.seq}` }];
    });
  }

  #ended(ids: readonly string[]) {
    return ids
      .filter((id) => isTerminal(this.jobs.get(id)?.facts.state ?? 'queued'))
      .map((job_id) => ({ job_id }));
  }
}

const unset = {
  isUntouched: () => true,
  settingsOf: () => unsetQueue,
  pauseOf: () => null,
  drainOf: () => null,
  isDefined: () => true,
};

async function noQueues(): Promise<never> {
  throw new Problem('not-found', { detail: 'there are no queues here' });
}

function fits(facts: NamedFacts, filter: Filter): boolean {
  const { queue, type, state, tag, error_class, created_after, created_before } = filter;
  const equal = { queue, type, state, class: error_class };
  return (
    Object.entries(equal).every(([k, v]) => v === undefined || facts[k as keyof NamedFacts] === v) &&
    (tag === undefined || (facts.tags ?? []).includes(tag)) &&
    (created_after === undefined || facts.created_at.getTime() >= Date.parse(created_after)) &&
    (created_before === undefined || facts.created_at.getTime() < Date.parse(created_before))
  );
}

const blank: Omit<NamedFacts, 'id' | 'type' | 'created_at'> = {
  queue: 'default',
  state: 'queued',
  priority: 5,
  attempt: 0,
  max_attempts: 8,
  epoch: 0,
  timeout_seconds: 60,
  run_at: null,
  expires_at: null,
  started_at: null,
  finished_at: null,
  next_at: null,
  backoff: null,
  tags: null,
  options: null,
  patches: null,
  progress: null,
  progress_seq: null,
  worker: null,
  cancel_requested: false,
  class: null,
  source: null,
  http_status: null,
  error: null,
  fingerprint: null,
  created_uri: null,
  has_result: false,
};
