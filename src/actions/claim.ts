// Hands out jobs: to handlers of this process and to pull workers alike.
// Invariants: a job past its expires_at is ended here instead of being handed out; a caller holds at most one suspect; a
// start gets the checkpoint of the ones before it.
// Next room: store/claims.ts; then roles/worker/run.ts or http/leases.ts, which end what was claimed through settle.ts.
import { fingerprintOf } from '../domain/fingerprint.ts';
import type { Heads } from '../domain/heads.ts';
import type { OpenLeases } from '../domain/open-leases.ts';
import { errorText, tooOld } from '../domain/outcome.ts';
import type { EventBus } from '../events.ts';
import { type Claimed, claimJobs, holdSuspects } from '../store/claims.ts';
import type { Pool } from '../store/db.ts';
import { findLastFailure, noDetails } from '../store/endings.ts';
import { findClaimed } from '../store/jobs.ts';
import type { Lanes } from '../store/lanes.ts';
import { findCheckpoints } from '../store/progress.ts';
import { numbers } from '../store/sql.ts';
import type { Settle } from './settle.ts';

export interface ClaimAsk {
  /** Who claims: one for all jobs, or, with `apart`, one for each. */
  owners: readonly [number, ...number[]];
  /** Whether every job gets a lease of its own; absent: jobs of a block share one. */
  apart?: boolean;
  /** Lanes the caller serves. */
  lanes: ReadonlySet<number>;
  want: number;
  lease_seconds: number;
  /** Whether a job that was lost twice comes without others: what kills its worker would convict it. */
  alone?: boolean;
}

/** A claimed job with the names of its lane and the last checkpoint of its earlier starts, as JSON text. */
export type Job = Claimed & { queue: string; type: string; checkpoint: string | null };

export interface ClaimOptions {
  db: Pool;
  heads: Heads;
  lanes: Lanes;
  open: OpenLeases;
  settle: Settle;
  events: EventBus;
}

export type Claim = (ask: ClaimAsk) => Promise<Job[]>;

/** Builds the verb. Answers with what there is, which may be nothing; never waits for work. */
export function claiming(options: ClaimOptions): Claim {
  const { db, heads, lanes, open, settle, events } = options;
  let perBlock = 1;
  // The look and the claim are two statements: one caller must not be between them twice.
  const takingSuspect = new Set<number>();

  async function take(ask: ClaimAsk, suspects: boolean): Promise<Claimed[]> {
    const asked = heads.choose(ask.lanes, suspects, performance.now());
    if (asked.length === 0) return [];
    const { jobs, heads: seen } = await claimJobs(db, {
      lanes: asked.map((head) => head.lane),
      prios: asked.map((head) => head.prio),
      cursors: asked.map((head) => head.cursor),
      want: ask.want,
      owners: ask.owners,
      apart: ask.apart ?? false,
      lease_seconds: ask.lease_seconds,
      // A suspect has a block of its own.
      blocks: suspects ? ask.want : Math.ceil(ask.want / perBlock) + 1,
    });
    heads.observe(asked, seen, performance.now());
    if (!suspects && jobs.length > 0) {
      const blocks = seen[0]?.blocks ?? jobs.length;
      perBlock = Math.max(1, perBlock * 0.8 + (jobs.length / blocks) * 0.2);
    }
    return jobs;
  }

  /** One suspect for each owner who holds none; first of all, because behind a backlog of healthy jobs it would starve. */
  async function takeSuspects(ask: ClaimAsk): Promise<Claimed[]> {
    if (!heads.anySuspect(ask.lanes)) return [];
    const asking = [...new Set(ask.owners)].filter((owner) => !takingSuspect.has(owner));
    if (asking.length === 0) return [];
    for (const owner of asking) takingSuspect.add(owner);
    try {
      const holders = new Set((await db.many(holdSuspects, [numbers(asking)])).map((row) => row.owner));
      const [first, ...others] = asking.filter((owner) => !holders.has(owner));
      if (first === undefined) return [];
      return await take({ ...ask, owners: [first, ...others], want: others.length + 1 }, true);
    } finally {
      for (const owner of asking) takingSuspect.delete(owner);
    }
  }

  return async (ask) => {
    const claimed = await takeSuspects(ask);
    const want = ask.alone && claimed.length > 0 ? 0 : ask.want - claimed.length;
    const owners = withoutJob(ask.owners, claimed);
    // What is claimed is handed out, whatever happens next: dropping it would cost each job an attempt.
    const report = (error: unknown): undefined => {
      events.emit('store.error', { where: 'claim', error });
    };
    const more = want > 0 ? take({ ...ask, owners, want }, false) : Promise.resolve([]);
    if (claimed.length === 0) claimed.push(...(await more));
    else await more.then((jobs) => claimed.push(...jobs), report);
    open.granted(claimed);
    const checkpoints = await checkpointsOf(db, claimed).catch(report);
    const jobs: Job[] = [];
    // Together, so that they end in one statement: what was claimed beside them waits for it.
    const unfit: Promise<void>[] = [];
    for (const job of claimed) {
      if (job.payload === null) await fetchMissing(db, job, events);
      const lane = lanes.peek(job.lane) ?? (await lanes.get(job.lane));
      const named = job as Job;
      named.queue = lane.queue;
      named.type = job.options?.type ?? lane.route;
      named.checkpoint = checkpoints?.get(job.job_id) ?? null;
      if (job.expired) unfit.push(expire(settle, named).catch(report));
      else if (isTooOld(named)) unfit.push(bury(db, settle, named).catch(report));
      else if (checkpoints === undefined) {
        tellClaimed(named, events);
        unfit.push(giveBack(settle, named).catch(report));
      } else jobs.push(named);
    }
    await Promise.all(unfit);
    for (const job of jobs) tellClaimed(job, events);
    return jobs;
  };
}

function tellClaimed({ job_id, lane, queue, type, epoch, attempt, wait_ms }: Job, events: EventBus): void {
  events.emit('job.claimed', { job_id, lane, queue, type, epoch, attempt, wait_ms });
}

/** The owners of the jobs still wanted: the one for all of them, or those that have none yet. */
function withoutJob(owners: ClaimAsk['owners'], claimed: readonly Claimed[]): ClaimAsk['owners'] {
  if (owners.length === 1) return owners;
  const rest: number[] = [...owners];
  for (const job of claimed) rest.splice(rest.indexOf(job.owner), 1);
  return rest as unknown as ClaimAsk['owners'];
}

/** Whether this would be a further attempt of a job that is to have none any more. */
function isTooOld({ retry_until, epoch, started_at }: Job): boolean {
  return retry_until !== null && epoch > 1 && started_at.getTime() > retry_until;
}

const none: ReadonlyMap<string, string> = new Map();

/** First starts have none, so most claims ask nothing. */
async function checkpointsOf(db: Pool, claimed: readonly Claimed[]): Promise<ReadonlyMap<string, string>> {
  const again = claimed.filter((job) => job.epoch > 1).map((job) => job.job_id);
  if (again.length === 0) return none;
  const rows = await db.many(findCheckpoints, [numbers(again)]);
  return new Map(rows.map((row) => [row.job_id, row.checkpoint]));
}

/** The block was newer than the snapshot that looked for its jobs: a second statement sees them. */
async function fetchMissing(db: Pool, job: Claimed, events: EventBus): Promise<void> {
  events.emit('invariant.violated', { what: 'a claim did not see a job of its block', job_id: job.job_id });
  Object.assign(job, await db.one(findClaimed, [job.job_id]));
}

async function expire(settle: Settle, job: Job): Promise<void> {
  await settle(
    {
      ...noDetails,
      // The epoch is spent, the attempt is not: nothing ran.
      start: { ...job, attempt: job.attempt - 1 },
      status: 'expired',
      unstarted: true,
      source: 'errand',
      error: 'expires_at passed before the next start',
    },
    job,
  );
}

/** No further attempt may begin: the job is dead of what its last failure was. */
async function bury(db: Pool, settle: Settle, job: Job): Promise<void> {
  const last = await db.maybeOne(findLastFailure, [job.job_id]);
  const { type } = job;
  const spent = { class: 'timeout', source: 'errand', http_status: null, error: null } as const;
  const { class: kind, source, http_status, error } = last ?? spent;
  await settle(
    {
      ...noDetails,
      start: { ...job, attempt: job.attempt - 1 },
      status: 'dead',
      unstarted: true,
      ...{ class: kind, source, http_status },
      error: errorText(error, { outcome: 'dead', note: tooOld }),
      fingerprint: last?.fingerprint ?? fingerprintOf({ ...spent, type, message: tooOld, place: null }),
    },
    job,
  );
}

/** Without its checkpoint a start would do over what is done. */
async function giveBack(settle: Settle, job: Job): Promise<void> {
  await settle({ ...noDetails, start: job, status: 'released', delay_ms: 1_000 }, job);
}
