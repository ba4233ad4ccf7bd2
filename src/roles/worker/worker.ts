// Runs jobs in this process: claims as many as there are free slots, renews the leases of all that run in one statement,
// tells those that must stop. Woken when a head becomes ready and when a slot falls free; the poll is the floor. How a job
// is executed is handed in.
// Invariants: never more jobs at work than slots, and as many again at most whose end is being written; a job whose lease is
// lost is told so; at drain running jobs end or are given back without costing an attempt.
// Next room: run.ts, one start from claim to settle.
import type { Claim, Job } from '../../actions/claim.ts';
import { beatAll } from '../../actions/heartbeat.ts';
import type { Ready } from '../../actions/ready.ts';
import { Bag } from '../../domain/bag.ts';
import type { Heads } from '../../domain/heads.ts';
import { Pace } from '../../domain/pace.ts';
import type { Pool } from '../../store/db.ts';
import type { Lane, Lanes } from '../../store/lanes.ts';
import { type Loop, loop } from '../loop.ts';
import { endBy, type Service } from '../service.ts';
import { Running, type RunOptions, runStart } from './run.ts';

export interface WorkerOptions extends Omit<RunOptions, 'onWorked'> {
  name: string;
  db: Pool;
  claim: Claim;
  ready: Ready;
  heads: Heads;
  lanes: Lanes;
  /** Whether jobs of a lane are executed here. */
  serves: (lane: Lane) => boolean;
  owner: () => number;
  concurrency: number;
  lease_seconds: number;
  onError: (name: string, error: unknown) => void;
}

export interface Worker extends Service {
  /** Jobs at work. */
  readonly running: number;
  /** Most jobs that run at once. */
  readonly slots: number;
  /** A cancel was asked for in this process: a job that runs here need not wait for the next renewal to learn it. */
  cancelRequested(job_id: string): void;
  /** Monotonic ms of the last claim round that did not fail. */
  readonly last_success: number;
}

/** Most jobs of one claim: while these run, the next are claimed and those before are ended. */
const most_per_claim = 500;
/** A claim that brings all of so many says that more waits. */
const backlog_from = 100;
const poll_ms = 500;
const claim_gap_ms = 5;
const claims_at_once = 4;
/** Times a claimer looks again where another one holds the blocks, longer apart each time. */
const most_tries = 6;

const pause = (ms: number) => (ms <= 0 ? undefined : new Promise((resolve) => setTimeout(resolve, ms)));

export function worker(options: WorkerOptions): Worker {
  const { claim, ready, lanes, serves, concurrency, onError } = options;
  const running = new Bag<Running>();
  // Of those: the work is under way. The others wait for their end to be written, and need no slot for that.
  let working = 0;
  const leases = new Map<string, { jobs: Set<Running>; deadline: NodeJS.Timeout }>();
  let served = new Set<number>();
  let servedOf = 0;
  let unlisten = () => {};
  let idle = () => {};
  let starved = false;
  // The last claim got all that it asked for.
  let hasBacklog = false;
  let roomy = () => {};
  let lastClaim = Number.NEGATIVE_INFINITY;
  let tries = 0;
  const pace = new Pace(claim_gap_ms, claims_at_once);
  const runOptions: RunOptions = {
    ...options,
    onWorked() {
      working--;
      freed();
    },
  };

  function lanesServed(): ReadonlySet<number> {
    if (lanes.count !== servedOf) {
      served = new Set([...lanes.all()].filter(serves).map((lane) => lane.id));
      servedOf = lanes.count;
    }
    return served;
  }

  /** A round that finds nothing costs little, but there is one for each flush of submits that go elsewhere. */
  function mayClaim(): boolean {
    const { heads } = options;
    return heads.anyReady(lanesServed()) || heads.anySuspect(lanesServed());
  }

  let isStopping = false;

  function free(): number {
    return Math.min(concurrency - working, 2 * concurrency - running.size);
  }

  /** Claims until nothing is left or no slot is free; answers in how many ms to look again. */
  async function claimRound(): Promise<number | undefined> {
    let more = false;
    while (!isStopping) {
      starved = free() === 0;
      if (starved) return;
      // The pace gathers a stream into few claims; under a backlog it would only idle.
      if (running.size > 0 && !more) await (hasBacklog ? untilRoomy() : pause(pace.wait(performance.now())));
      lastClaim = performance.now();
      pace.take(lastClaim);
      const want = Math.min(free(), most_per_claim);
      const jobs = await claim({
        owners: [options.owner()],
        lanes: lanesServed(),
        want,
        lease_seconds: options.lease_seconds,
      });
      hasBacklog = jobs.length === want;
      more = hasBacklog && want >= backlog_from;
      const starts = take(jobs);
      // Under a backlog the next claim is on its way before these handlers have the thread, or the database would rest
      // while they run, and they while it claims.
      if (more) setImmediate(() => begin(starts));
      else begin(starts);
      if (!more) return nextLook(jobs.length);
    }
  }

  /** Whether a claim got all there was is for the next one to see. A hint does not wait for it. */
  function nextLook(claimed: number): number | undefined {
    if (claimed > 0) {
      tries = 0;
      return claim_gap_ms;
    }
    // Another claimer holds the blocks for a moment: what it leaves is ours to take.
    if (options.heads.anyReady(lanesServed()) && tries < most_tries) return claim_gap_ms * 2 ** tries++;
    tries = 0;
    return undefined;
  }

  /** Of a backlog the next jobs are claimed when half of the slots are free: few claims, and work for the others meanwhile. */
  function untilRoomy(): Promise<void> | undefined {
    const longest = lastClaim + claim_gap_ms - performance.now();
    if (longest <= 0 || isRoomy()) return undefined;
    return new Promise((resolve) => {
      const timer = setTimeout(resolve, longest);
      roomy = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  function isRoomy(): boolean {
    return free() * 2 >= concurrency;
  }

  /** Gives jobs their slots. */
  function take(jobs: readonly Job[]): Running[] {
    const now = performance.now();
    const starts = jobs.map((job) => new Running(job, now));
    working += starts.length;
    for (const one of starts) {
      running.add(one);
      leaseOf(one.job).jobs.add(one);
    }
    return starts;
  }

  function begin(starts: readonly Running[]): void {
    for (const one of starts) void run(one);
  }

  async function run(one: Running): Promise<void> {
    try {
      await runStart(one, runOptions);
    } catch (error) {
      onError('settle', error);
    }
    end(one);
  }

  function end(one: Running): void {
    running.delete(one);
    const lease = leaseOf(one.job);
    lease.jobs.delete(one);
    if (lease.jobs.size === 0) {
      clearTimeout(lease.deadline);
      leases.delete(one.job.lease);
    }
    if (running.size === 0) idle();
    freed();
  }

  function freed(): void {
    if (hasBacklog && isRoomy()) {
      roomy();
      rounds.wake();
    }
    // Slots fall free by the flush: wait for all of them, or the next claim would ask for one job.
    if (starved) {
      starved = false;
      setImmediate(() => rounds.wake());
    }
  }

  /** Jobs of one lease share their deadline: one timer each lease, not each job. */
  function leaseOf({ lease, deadline, started_at }: Job) {
    const known = leases.get(lease);
    if (known !== undefined) return known;
    const jobs = new Set<Running>();
    const timer = setTimeout(() => {
      for (const one of jobs) one.stop('deadline');
    }, deadline.getTime() - started_at.getTime());
    const made = { jobs, deadline: timer };
    leases.set(lease, made);
    return made;
  }

  async function renew(): Promise<undefined> {
    if (running.size === 0) return;
    const before = performance.now() - (options.lease_seconds * 1_000) / 4;
    const old = [...running].filter((one) => one.began < before).map((one) => one.job);
    if (old.length === 0) return;
    const asked = new Set(old.map((job) => job.lease));
    const { standing, ended } = await beatAll(options.db, old, options.lease_seconds);
    for (const one of running) {
      if (!asked.has(one.job.lease)) continue;
      const cancels = standing.get(one.job.lease);
      if (cancels === undefined || ended.has(one.job.job_id)) one.stop('lost');
      else if (cancels.includes(one.job.job_id)) askToStop(one);
    }
  }

  function askToStop(one: Running): void {
    one.cancel_requested = true;
    one.stop('cancelled');
  }

  const rounds: Loop = loop({ name: 'claim', every_ms: poll_ms, run: claimRound, onError });
  const renewals: Loop = loop({
    name: 'renew',
    every_ms: (options.lease_seconds * 1_000) / 4,
    run: renew,
    onError,
  });

  return {
    name: options.name,
    slots: concurrency,
    get running() {
      return working;
    },
    get last_success() {
      return rounds.last_success;
    },
    cancelRequested(job_id) {
      for (const one of running) if (one.job.job_id === job_id) askToStop(one);
    },
    start() {
      isStopping = false;
      unlisten = ready.on(() => {
        if (mayClaim()) rounds.wake();
      });
      void rounds.start();
      void renewals.start();
    },
    async stop(deadline) {
      unlisten();
      isStopping = true;
      await rounds.stop(deadline);
      const done = new Promise<void>((resolve) => {
        idle = resolve;
        if (running.size === 0) resolve();
      });
      const left = Math.max(0, deadline - performance.now() - 2_000);
      await endBy(performance.now() + left, options.name, done).catch(() => {});
      // What has not ended by now is given back; a handler that ignores its signal loses its slot, not its job.
      for (const one of running) one.stop('drain');
      await endBy(performance.now() + 2_000, options.name, done).catch(() => {});
      await renewals.stop(deadline);
    },
  };
}
