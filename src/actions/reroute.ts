// Moves the waiting jobs of a queue to another queue, as an operation.
// Invariant: each keeps its route, its age and its time; its record and the news of its end follow it.
// Next room: moving.ts, the walk.
import type { JobFilter, WaitingState } from '../domain/operation.ts';
import { callbackType, pushRoute } from '../domain/options.ts';
import type { EventBus } from '../events.ts';
import type { Db } from '../store/db.ts';
import type { Lanes } from '../store/lanes.ts';
import { lastJob } from '../store/moves.ts';
import type { HeldOperation } from '../store/operations.ts';
import { lanesMeant, type Pair, type WalkCursor, walk } from './moving.ts';
import type { Ready } from './ready.ts';
import type { Step, TakeStep } from './stepping.ts';

/** What is kept of the wish. */
export interface RerouteParams {
  to: string;
  filter: JobFilter;
  states: readonly WaitingState[];
  limit: number | null;
}

interface Plan {
  pairs?: readonly Pair[];
  ceiling: string;
  callback_lane: number;
}

export function rerouteStep(tools: { lanes: Lanes; ready: Ready; events: EventBus }): TakeStep {
  return async (tx, operation) => {
    const { to, filter, states, limit } = operation.params as RerouteParams;
    const plan = operation.plan as unknown as Plan;
    if (plan.pairs === undefined) return planned(tx, operation, tools.lanes);
    const left = limit === null ? Number.MAX_SAFE_INTEGER : limit - operation.matched;
    const moving = {
      ...{ pairs: plan.pairs, states, filter, ceiling: plan.ceiling, left: Math.min(left, 2 ** 31 - 1) },
      ...{ keeps: false, follows: { callback_lane: plan.callback_lane }, to },
    };
    const walked = await walk(tx, moving, operation.cursor as WalkCursor, tools);
    return {
      matched: walked.total,
      counts: walked.moved,
      cursor: { ...walked.cursor },
      after: walked.after,
      ...(walked.done ? { state: 'done' } : {}),
    };
  };
}

/** Which lanes lead where, decided once: what comes to the queue later stays there. */
async function planned(tx: Db, { target, params }: HeldOperation, lanes: Lanes): Promise<Step> {
  const { to, filter } = params as RerouteParams;
  const pairs: Pair[] = [];
  for (const { id, route } of await lanesMeant(tx, target, filter.types))
    pairs.push([id, (await lanes.named(to, route)).id]);
  const ceiling = (await tx.one(lastJob)).id;
  const callback_lane = (await lanes.named(to, pushRoute(callbackType))).id;
  return { plan: { pairs, ceiling, callback_lane } };
}
