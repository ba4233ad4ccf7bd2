// Walks the lanes of a queue and moves the jobs that fit into other lanes, a bounded number at a time: the steps of a reroute,
// and of setting aside and putting back.
// Invariants: it walks until a whole walk finds nothing more, because jobs move between its steps; jobs that came after it
// began are left alone, so it ends.
// Next room: store/moves.ts, whose statements say what a move is.
import type { JobFilter, WaitingState } from '../domain/operation.ts';
import { callbackType, typeOf } from '../domain/options.ts';
import { tenant } from '../domain/tenant.ts';
import type { EventBus } from '../events.ts';
import type { Db } from '../store/db.ts';
import { lanesOf, moveBlocked, moveBlocks, moveLater } from '../store/moves.ts';
import type { Ready } from './ready.ts';

/** From a lane to a lane. */
export type Pair = readonly [from: number, to: number];

/** What is to be moved. */
export interface Moving {
  pairs: readonly Pair[];
  states: readonly WaitingState[];
  filter: JobFilter;
  /** The highest id; null: any. */
  ceiling: string | null;
  /** How many are still to be moved. */
  left: number;
  /** Whether they keep their places in the line. */
  keeps: boolean;
  /** Whether their records say the new lane, with that of their callbacks; null: they do not. */
  follows: { callback_lane: number } | null;
}

/** Where a walk stands. */
export interface WalkCursor {
  walk?: number;
  found?: number;
  pair?: number;
  part?: number;
  at?: readonly string[] | null;
}

/** What a step of a walk did. `done`: nothing is left that it could move. */
export interface Walked {
  moved: Partial<Record<WaitingState, number>>;
  total: number;
  cursor: WalkCursor;
  done: boolean;
  after: () => void;
}

const most_blocks = 300;
const most_jobs = 2_000;
const most_later = 1_000;
/** Statements of one step that may find nothing, so that a queue of many lanes is not walked lane by lane and second. */
const most_empty = 50;
/** Two operations that move jobs to and fro would never end. */
const most_walks = 5;

/** In the order in which jobs move by themselves, so that none slips through between two of them. */
const parts = ['blocked', 'scheduled', 'retrying', 'queued'] as const;
const any_id = '9223372036854775807';

/** Lanes whose jobs an operator means by a queue: those that tell of ends only where their type is named. */
export async function lanesMeant(
  tx: Db,
  queue: string,
  types: readonly string[] | undefined,
): Promise<{ id: number; route: string }[]> {
  const lanes = await tx.many(lanesOf, [tenant, queue, null]);
  return lanes.filter(({ route }) => types?.includes(typeOf(route)) ?? typeOf(route) !== callbackType);
}

/** Moves what one step may, beginning where the walk stands. */
export async function walk(
  tx: Db,
  moving: Moving,
  cursor: WalkCursor,
  tools: { ready: Ready; events: EventBus },
): Promise<Walked> {
  const wanted = parts.filter((part) => moving.states.includes(part));
  let { walk = 0, found = 0, pair = 0, part = 0, at = null } = cursor;
  for (let n = 0; n < most_empty; n++) {
    const lanes = moving.pairs[pair];
    const state = wanted[part];
    if (lanes === undefined || state === undefined) {
      walk += 1;
      if (found === 0 || walk >= most_walks) return { ...nothing, cursor: {}, done: true };
      [found, pair, part, at] = [0, 0, 0, null];
      continue;
    }
    const { moved, next, after } =
      state === 'queued'
        ? await moveReady(tx, moving, lanes, at, tools)
        : state === 'blocked'
          ? await moveParked(tx, moving, lanes, at, tools)
          : await moveWaiting(tx, moving, lanes, state, at, tools);
    found += moved;
    if (next !== null) at = next;
    else [part, pair, at] = part + 1 < wanted.length ? [part + 1, pair, null] : [0, pair + 1, null];
    if (moved > 0) {
      const cursorNow = { walk, found, pair, part, at };
      return {
        moved: { [state]: moved },
        total: moved,
        cursor: cursorNow,
        done: moved >= moving.left,
        after,
      };
    }
  }
  return { ...nothing, cursor: { walk, found, pair, part, at }, done: false };
}

const nothing = { moved: {}, total: 0, after: () => {} };

interface Moved {
  moved: number;
  /** Where the lane goes on; null: it has no more of these. */
  next: readonly string[] | null;
  after: () => void;
}

async function moveReady(
  tx: Db,
  moving: Moving,
  [from, to]: Pair,
  at: readonly string[] | null,
  { ready, events }: { ready: Ready; events: EventBus },
): Promise<Moved> {
  const [prio, ord] = at ?? ['-1', '0'];
  const row = await tx.one(moveBlocks, [
    ...[from, to, prio, ord, most_blocks, most_jobs, ...filterParams(moving), moving.left],
    ...[moving.keeps, moving.follows !== null, moving.follows?.callback_lane ?? null],
  ]);
  const isEnd = row.looked < most_blocks && row.used === row.looked;
  return {
    moved: row.moved,
    next: isEnd ? null : [String(row.prio), row.ord as string],
    after() {
      // They may stand before what a cursor has passed.
      for (const { prio, ord } of row.heads) ready.announce([{ lane: to, prio }], BigInt(ord));
      tellMoved(events, row.moved, from, to, 'queued');
    },
  };
}

async function moveWaiting(
  tx: Db,
  moving: Moving,
  [from, to]: Pair,
  state: 'scheduled' | 'retrying',
  at: readonly string[] | null,
  { events }: { events: EventBus },
): Promise<Moved> {
  const [run_at, job_id] = at ?? ['-infinity', '0'];
  const row = await tx.one(moveLater, [
    ...[from, to, state === 'retrying', run_at, job_id, most_later, ...filterParams(moving), moving.left],
    ...[moving.follows !== null, moving.follows?.callback_lane ?? null],
  ]);
  return {
    moved: row.moved,
    next: row.looked < most_later ? null : [row.run_at as string, row.job_id as string],
    after: () => tellMoved(events, row.moved, from, to, state),
  };
}

async function moveParked(
  tx: Db,
  moving: Moving,
  [from, to]: Pair,
  at: readonly string[] | null,
  { events }: { events: EventBus },
): Promise<Moved> {
  const row = await tx.one(moveBlocked, [
    ...[from, to, at?.[0] ?? '0', most_later, ...filterParams(moving), moving.left],
    ...[moving.follows !== null, moving.follows?.callback_lane ?? null],
  ]);
  return {
    moved: row.moved,
    next: row.looked < most_later ? null : [row.job_id as string],
    after: () => tellMoved(events, row.moved, from, to, 'blocked'),
  };
}

function tellMoved(events: EventBus, jobs: number, from: number, to: number, state: WaitingState) {
  if (jobs === 0) return;
  events.emit('jobs.moved', { jobs, from: { lane: from, state }, to: { lane: to, state } });
}

function filterParams({ ceiling, filter }: Moving): unknown[] {
  return [ceiling ?? any_id, asksJobs(filter), ...askedOf(filter)];
}

/** Whether jobs themselves have to be looked at to know whether they fit. */
export function asksJobs({ tags, created_after, created_before }: JobFilter): boolean {
  return tags !== undefined || created_after !== undefined || created_before !== undefined;
}

/** A filter as statements take it: tags, priorities, created after, created before. */
export function askedOf({ tags, priorities, created_after, created_before }: JobFilter): unknown[] {
  return [tags ?? null, priorities ?? null, created_after ?? null, created_before ?? null];
}
