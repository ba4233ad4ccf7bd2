// Looks at one job from all sides and says why it is where it is.
// Invariant: read only, and bounded; what is told is as old as the question.
// Next room: domain/why.ts, which decides; store/standing.ts and roster.ts, which look.
import { isTerminal } from '../domain/job.ts';
import { heldRoute } from '../domain/options.ts';
import type { NamedFacts } from '../domain/record.ts';
import { type Pause, type Reason, whyOf } from '../domain/why.ts';
import type { Pool } from '../store/db.ts';
import type { Lanes, Workers } from '../store/lanes.ts';
import { findPlace } from '../store/standing.ts';
import type { Inspect } from './inspect.ts';
import type { Roster } from './roster.ts';

/** Why a job is where it is, the decisive reason first; undefined: there is no such job. */
export type Why = (id: string) => Promise<{ facts: NamedFacts; reasons: Reason[] } | undefined>;

const most_blocks_ahead = 1_000;
const nobody = { workers: 0, slots: 0, running: 0 };

export function explaining(options: {
  db: Pool;
  inspect: Inspect;
  lanes: Lanes;
  workers: Workers;
  roster: Roster;
  pausesOf: (queue: string, type: string) => readonly Pause[];
}): Why {
  const { db, inspect, lanes, workers, roster, pausesOf } = options;
  return async (id) => {
    const [facts, place] = await Promise.all([
      inspect.job(id),
      db.maybeOne(findPlace, [id, most_blocks_ahead]),
    ]);
    if (facts === undefined || place === undefined) return undefined;
    const { queue, type, state, attempt, max_attempts, cancel_requested } = facts;
    const lane = lanes.peek(place.lane) ?? (await lanes.get(place.lane));
    const waits = !isTerminal(state) && state !== 'running';
    const { route, prio, ahead, urgent, is_bound, owner, started_at, until, deadline } = place;
    const reasons = whyOf({
      now: place.now,
      id,
      state,
      queue,
      type,
      attempt,
      max_attempts,
      cancel_requested,
      error:
        facts.class === null && facts.error === null ? null : { class: facts.class, detail: facts.error },
      due: place.due,
      lease:
        started_at === null || until === null || deadline === null
          ? null
          : { worker: await workers.nameOf(owner), started_at, until, deadline },
      line: prio === null ? null : { prio, ahead, urgent, is_bound },
      blocked_on: facts.options?.blocked_by ?? null,
      held_by: route === null ? null : heldRoute(route),
      pauses: pausesOf(queue, type),
      takers: waits ? await roster.takers(lane) : nobody,
    });
    return { facts, reasons };
  };
}
