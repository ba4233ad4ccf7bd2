// Operations that end many jobs in two goes: first they are set aside, where nobody takes them, and only when the time for a
// change of mind is over they are ended. A purge, a bulk cancel, a forced deletion of a queue.
// Invariants: what is set aside is in one place, its own or a hold lane; until the sweep begins all of it can be put back;
// what runs is never set aside; no job is left behind in a hold lane, because it is looked through once more when all is over.
// Next room: moving.ts, which sets aside and puts back; store/sweeps.ts, which ends; discard.ts, the same for dead letters.
import type { JobFilter, WaitingState } from '../domain/operation.ts';
import { holdRoute } from '../domain/options.ts';
import type { EventBus } from '../events.ts';
import { insertCallbacks } from '../store/callbacks.ts';
import type { Db } from '../store/db.ts';
import type { Lanes } from '../store/lanes.ts';
import { forgetLanes, lastJob } from '../store/moves.ts';
import type { HeldOperation } from '../store/operations.ts';
import { type Swept, stopRunning, sweepBlocked, sweepBlocks, sweepLater } from '../store/sweeps.ts';
import { askedOf, lanesMeant, type Pair, type WalkCursor, walk } from './moving.ts';
import { tellOfCallbacks } from './news.ts';
import type { Ready } from './ready.ts';
import type { Step, TakeStep } from './stepping.ts';

/** What is kept of the wish. */
export interface HoldParams {
  filter: JobFilter;
  states: readonly (WaitingState | 'running')[];
  limit: number | null;
  undo_seconds: number;
}

export interface HoldTools {
  lanes: Lanes;
  ready: Ready;
  events: EventBus;
  onEnded: (ids: string[]) => void;
  /** Jobs that run, maybe in this process, were asked to stop. */
  onRequested: (ids: readonly string[]) => void;
}

interface Plan {
  /** From a lane of the queue to its hold lane. */
  pairs?: readonly Pair[];
  ceiling: string;
}

const waiting: readonly WaitingState[] = ['queued', 'scheduled', 'retrying', 'blocked'];
const most_blocks = 200;
const most_swept = 500;
const most_leases = 200;
/** Longer than any statement runs: what was under way into a hold lane has arrived by then. */
const last_look_ms = 15_000;

export function holdStep(tools: HoldTools): TakeStep {
  return async (tx, operation) => {
    const plan = operation.plan as unknown as Plan;
    if (operation.finished_at !== null) return lastLook(tx, operation, tools);
    switch (operation.phase) {
      case 'mark':
        return plan.pairs === undefined ? planned(tx, operation, tools.lanes) : mark(tx, operation, tools);
      case 'hold':
        return { phase: 'sweep', cursor: {} };
      case 'sweep':
        return sweep(tx, operation, tools);
      case 'undo':
        return putBack(tx, operation, 'undone', tools);
      default:
        return putBack(tx, operation, 'cancelled', tools);
    }
  };
}

async function planned(tx: Db, { id, target, params }: HeldOperation, lanes: Lanes): Promise<Step> {
  const { filter } = params as HoldParams;
  const pairs: Pair[] = [];
  for (const lane of await lanesMeant(tx, target, filter.types))
    pairs.push([lane.id, (await lanes.named(target, holdRoute(id, lane.route))).id]);
  return { plan: { pairs, ceiling: (await tx.one(lastJob)).id } };
}

async function mark(tx: Db, operation: HeldOperation, tools: HoldTools): Promise<Step> {
  const { filter, states, limit, undo_seconds } = operation.params as HoldParams;
  const { pairs = [], ceiling } = operation.plan as unknown as Plan;
  const left = leftOf(limit, operation.matched);
  if (left === 0) return afterMark(undo_seconds);
  const moving = {
    ...{ pairs, states: waiting.filter((state) => states.includes(state)), filter, ceiling, left },
    ...{ keeps: true, follows: null },
  };
  const walked = await walk(tx, moving, operation.cursor as WalkCursor, tools);
  const met = { matched: walked.total, counts: { held: walked.total }, after: walked.after };
  if (!walked.done) return { ...met, cursor: { ...walked.cursor } };
  return { ...met, ...afterMark(undo_seconds) };
}

/** How many are still to be met. */
function leftOf(limit: number | null, matched: number): number {
  return limit === null ? 2 ** 31 - 1 : Math.max(0, limit - matched);
}

/** All is set aside: there is time to put it back. */
export function afterMark(undo_seconds: number): Step {
  if (undo_seconds === 0) return { phase: 'sweep', cursor: {} };
  return { phase: 'hold', cursor: {}, undo_seconds, wait_ms: undo_seconds * 1_000 };
}

/** Ends what is set aside, lane by lane, and then asks what runs to stop. */
async function sweep(tx: Db, operation: HeldOperation, tools: HoldTools): Promise<Step> {
  const { states } = operation.params as HoldParams;
  const { pairs = [] } = operation.plan as unknown as Plan;
  const swept = await sweepSome(tx, operation, pairs, tools);
  if (swept !== null) return swept;
  if (states.includes('running')) {
    const asked = await askToStop(tx, operation, tools);
    if (asked !== null) return asked;
  }
  return over('done', pairs);
}

/** Once more, when all that was under way has arrived. */
function over(state: 'done' | 'undone' | 'cancelled', pairs: readonly Pair[]): Step {
  return pairs.length === 0 ? { state } : { state, cursor: {}, wait_ms: last_look_ms };
}

/** Ends some of what is set aside; null: nothing is. */
async function sweepSome(
  tx: Db,
  operation: HeldOperation,
  pairs: readonly Pair[],
  tools: HoldTools,
): Promise<Step | null> {
  for (const [, held] of pairs) {
    const swept = await sweepLane(tx, operation, held);
    if (swept.length === 0) continue;
    const wanting = swept.filter((job) => job.callback).map((job) => job.job_id);
    const told = wanting.length === 0 ? [] : await tx.many(insertCallbacks, [wanting]);
    const after = () => {
      tellOfCallbacks(told, tools);
      tellSwept(swept, held, tools);
    };
    return { counts: { cancelled: swept.length }, after };
  }
  return null;
}

async function sweepLane(tx: Db, { id, kind, reason }: HeldOperation, lane: number): Promise<Swept[]> {
  const why = `${kind} by operation ${id}${reason === null ? '' : `: ${reason}`}`;
  // In the order in which they move by themselves.
  const blocked = await tx.many(sweepBlocked, [lane, most_swept, why]);
  if (blocked.length > 0) return blocked;
  const waited = await tx.many(sweepLater, [lane, most_swept, why]);
  return waited.length > 0 ? waited : tx.many(sweepBlocks, [lane, most_blocks, most_swept, why]);
}

async function askToStop(tx: Db, operation: HeldOperation, { onRequested }: HoldTools): Promise<Step | null> {
  const { filter, limit } = operation.params as HoldParams;
  const { pairs = [], ceiling } = operation.plan as unknown as Plan;
  const left = leftOf(limit, operation.matched);
  if (left === 0) return null;
  const { lease = '0' } = operation.cursor as { lease?: string };
  const asked = await tx.one(stopRunning, [
    ...[pairs.map(([from]) => from), lease, most_leases, ceiling],
    ...[...askedOf(filter), left],
  ]);
  if (asked.looked === 0) return null;
  const { jobs } = asked;
  return {
    matched: jobs.length,
    counts: { asked_to_stop: jobs.length },
    cursor: { lease: asked.lease },
    after: () => onRequested(jobs),
  };
}

function tellSwept(swept: readonly Swept[], held: number, { lanes, events, onEnded }: HoldTools): void {
  onEnded(swept.map((job) => job.job_id));
  for (const { job_id, lane, type, epoch, attempt, state } of swept) {
    // The plan was made here or elsewhere from lanes that were read: one that is not known is met by the next look.
    const { queue, route } = lanes.peek(lane) ?? unmet;
    // Its end is told of the lane it was submitted to.
    events.emit('jobs.moved', { jobs: 1, from: { lane: held, state }, to: { lane, state } });
    const end = { outcome: 'cancelled', class: null, run_ms: null, from: state, to: 'cancelled' } as const;
    events.emit('job.ended', { job_id, lane, queue, type: type ?? route, epoch, attempt, ...end });
  }
}

const unmet = { queue: '', route: '' };

async function putBack(
  tx: Db,
  operation: HeldOperation,
  state: 'undone' | 'cancelled',
  tools: HoldTools,
): Promise<Step> {
  const { pairs = [] } = operation.plan as unknown as Plan;
  const some = await putBackSome(tx, operation, pairs, tools);
  return some ?? over(state, pairs);
}

/** Puts some back; null: all is. */
async function putBackSome(
  tx: Db,
  operation: HeldOperation,
  pairs: readonly Pair[],
  tools: HoldTools,
): Promise<Step | null> {
  const { total, cursor, after, done } = await walk(
    tx,
    backwards(pairs),
    operation.cursor as WalkCursor,
    tools,
  );
  return done ? null : { counts: { put_back: total }, cursor: { ...cursor }, after };
}

function backwards(pairs: readonly Pair[]) {
  return {
    ...{ pairs: pairs.map(([from, held]): Pair => [held, from]), states: waiting, filter: {}, ceiling: null },
    ...{ left: 2 ** 31 - 1, keeps: true, follows: null },
  };
}

/** What came into a hold lane after it was looked through: a change of a held job that was under way. */
async function lastLook(tx: Db, operation: HeldOperation, tools: HoldTools): Promise<Step> {
  const { pairs = [] } = operation.plan as unknown as Plan;
  const late =
    operation.state === 'done'
      ? await sweepSome(tx, operation, pairs, tools)
      : await putBackSome(tx, operation, pairs, tools);
  if (late !== null) return { ...late, wait_ms: last_look_ms };
  await tx.many(forgetLanes, [pairs.map(([, held]) => held)]);
  return { plan: {} };
}
