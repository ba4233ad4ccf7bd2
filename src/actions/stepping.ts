// Takes the steps of operations, one at a time, in every process that moves jobs.
// Invariants: a step and what it says of itself commit together or not at all; an operation whose step fails is tried again
// later and then waits for somebody, and no other waits for it.
// Next room: redrive-many.ts, reroute.ts, hold.ts, discard.ts, what the steps do; store/operations.ts.
import type { OperationKind, OperationState, Phase } from '../domain/operation.ts';
import { Problem } from '../domain/problem.ts';
import type { EventBus } from '../events.ts';
import { DatabaseLost, type Db, type Pool, sqlState } from '../store/db.ts';
import { advance, type HeldOperation, nextDue, noteFailure, takeDue } from '../store/operations.ts';
import type { Chore } from './chores.ts';

/** What a step came to; what is absent is as it was. */
export interface Step {
  state?: OperationState;
  phase?: Phase;
  pause_reason?: string;
  /** How many jobs it met, and what became of them. */
  matched?: number;
  counts?: Readonly<Record<string, number>>;
  plan?: Record<string, unknown>;
  cursor?: Record<string, unknown>;
  /** When the next step is due; absent: at once while it runs, else never. */
  wait_ms?: number;
  /** The undo window begins, and is so long. */
  undo_seconds?: number;
  /** What is told once the step is committed. */
  after?: () => void;
}

/** Takes one step of an operation, in a transaction. */
export type TakeStep = (tx: Db, operation: HeldOperation) => Promise<Step>;

const most_failures = 5;
const taken_ms = 100;

export function operationChore(options: {
  db: Pool;
  steps: Readonly<Record<OperationKind, TakeStep>>;
  events: EventBus;
}): Chore {
  const { db, steps, events } = options;

  /** How many jobs the step met; undefined: no step is due. */
  async function step(): Promise<number | undefined> {
    let taken: HeldOperation | undefined;
    try {
      const done = await db.transaction(async (tx) => {
        taken = await tx.maybeOne(takeDue);
        if (taken === undefined) return undefined;
        const came = await steps[taken.kind](tx, taken);
        await tx.many(advance, paramsOf(taken, came));
        return came;
      });
      if (taken === undefined || done === undefined) return undefined;
      done.after?.();
      tell(taken, done);
      return done.matched ?? 0;
    } catch (error) {
      if (taken === undefined) throw error;
      await fail(taken, error);
      return 0;
    }
  }

  async function fail({ id, kind, failures }: HeldOperation, error: unknown): Promise<void> {
    const isSpent = failures + 1 >= most_failures;
    await db.many(noteFailure, [id, reasonOf(error), isSpent ? null : 1_000 * 2 ** failures, failures]);
    events.emit('operation.failed', { operation: id, kind, error });
  }

  function tell({ id, kind, state, phase }: HeldOperation, came: Step): void {
    for (const [outcome, items] of Object.entries(came.counts ?? {})) {
      if (items > 0) events.emit('operation.stepped', { operation: id, kind, outcome, items });
    }
    const now = { state: came.state ?? state, phase: came.phase ?? phase };
    if (now.state !== state || now.phase !== phase) {
      events.emit('operation.moved', { operation: id, kind, ...now });
    }
  }

  return {
    name: 'operations',
    every_ms: 1_000,
    async run() {
      const { ms } = await db.one(nextDue);
      if (ms === null || ms > 0) return { moved: 0, again_ms: ms === null ? undefined : Math.ceil(ms) };
      const matched = await step();
      // What is due and was not to be had is in the hands of another process.
      return matched === undefined ? { moved: 0, again_ms: taken_ms } : { moved: matched, again_ms: 0 };
    },
  };
}

function paramsOf(now: HeldOperation, came: Step): unknown[] {
  const state = came.state ?? now.state;
  const counts = { ...now.counts };
  for (const [outcome, items] of Object.entries(came.counts ?? {}))
    if (items > 0) counts[outcome] = (counts[outcome] ?? 0) + items;
  return [
    ...[now.id, state, came.phase ?? now.phase, came.pause_reason ?? null],
    ...[now.matched + (came.matched ?? 0), JSON.stringify(counts)],
    ...[JSON.stringify(came.plan ?? now.plan), JSON.stringify(came.cursor ?? now.cursor)],
    ...[came.wait_ms ?? (state === 'running' ? 0 : null), came.undo_seconds ?? null],
  ];
}

/** What may be told of a failure: never the text of an exception. */
function reasonOf(error: unknown): string {
  if (error instanceof DatabaseLost) return 'the database did not answer in time, or was busy';
  if (error instanceof Problem) return error.detail;
  const state = sqlState(error);
  return state === undefined
    ? 'an error of the server; its log has it'
    : `the database refused it (${state})`;
}
