// What is dangerous is done in two steps: it is proposed, and says how many jobs it would meet; then that is typed, and it
// begins as an operation.
// Invariants: nothing begins without the phrase; the phrase names what it was shown for: where that has changed by more than a
// tenth there is a new one; one action begins one operation, however often it is confirmed.
// Next room: hold.ts and discard.ts, whose steps follow; store/pending.ts.
import type { By } from '../domain/actor.ts';
import {
  type Extent,
  hasDrifted,
  type JobFilter,
  limitedTo,
  type OperationFacts,
  type OperationKind,
  type WaitingState,
} from '../domain/operation.ts';
import { cut, looksAt, nextPage, pageFrom } from '../domain/page.ts';
import { Problem } from '../domain/problem.ts';
import { tenant } from '../domain/tenant.ts';
import { audit } from '../store/audit.ts';
import type { Db, Pool } from '../store/db.ts';
import { countRunning, countWaiting } from '../store/moves.ts';
import { findOperation } from '../store/operations.ts';
import {
  type ActionFacts,
  confirmAction,
  findAction,
  insertAction,
  lockAction,
  refreshAction,
  walkActions,
  withdrawAction,
} from '../store/pending.ts';
import type { DiscardParams } from './discard.ts';
import type { HoldParams } from './hold.ts';
import { askedOf, asksJobs, lanesMeant } from './moving.ts';
import { beginWithin } from './operations.ts';
import { absenceOf } from './queues.ts';
import { countFitting } from './redrive-many.ts';

/** What can only be done with a typed phrase. */
export type DangerousKind = Exclude<OperationKind, 'dead_letters.redrive' | 'queue.reroute'>;

/** What is proposed. */
export type Proposal = { target: string; reason: string | null } & (
  | { action: 'dead_letters.discard'; params: DiscardParams }
  | { action: Exclude<DangerousKind, 'dead_letters.discard'>; params: HoldParams }
);

export interface Dangerous {
  /** Throws `not-found` where there is no such queue. */
  propose(proposal: Proposal, by: By): Promise<ActionFacts>;
  find(id: string): Promise<ActionFacts | undefined>;
  page(limit: number, cursor?: string): Promise<{ items: ActionFacts[]; next_cursor: string | null }>;
  /** Undefined: there is no such action. */
  confirm(id: string, phrase: string, by: By): Promise<OperationFacts | undefined>;
  withdraw(id: string, by: By): Promise<boolean>;
}

const verbs: Readonly<Record<DangerousKind, string>> = {
  'queue.purge': 'purge',
  'queue.delete_force': 'delete',
  'jobs.cancel_bulk': 'cancel',
  'dead_letters.discard': 'discard',
};

const valid_seconds = 600;
const aboveAll = '9223372036854775807';

export function confirming(options: {
  db: Pool;
  secret: Buffer;
  /** A step of an operation is due now. */
  onDue: () => void;
}): Dangerous {
  const { db, secret, onDue } = options;

  /** In the transaction of the confirmation; what changes although it is refused is committed too. */
  async function decide(tx: Db, action: ActionFacts, phrase: string, by: By) {
    if (action.state === 'withdrawn' || (action.state === 'pending' && action.expired)) throw tooLate(action);
    if (phrase !== action.confirm_phrase) throw mistyped(action);
    if (action.operation_id !== null) return tx.one(findOperation, [action.operation_id]);
    const present = await extentOf(tx, action as unknown as Proposal);
    if (hasDrifted(action.impact, present)) {
      const fresh = phraseOf(action.action, action.target, present);
      await tx.many(refreshAction, [action.id, JSON.stringify(present), fresh]);
      return { ...action, impact: present, confirm_phrase: fresh };
    }
    const { action: kind, target, params, reason } = action;
    const wish = { kind, target, params, reason, phase: 'mark', expected: present } as const;
    const { operation } = await beginWithin(tx, wish, null, by);
    await tx.many(confirmAction, [action.id, operation.id]);
    await audit(tx, by, {
      ...{ action: 'action.confirm', target: idOf(action.id), reason },
      facts: { kind, target, operation: operation.id },
    });
    return operation;
  }

  return {
    propose: (proposal, by) =>
      db.transaction(async (tx) => {
        const { action, target, params, reason } = proposal;
        const impact = await extentOf(tx, proposal);
        // A queue that was deleted may have left dead letters behind.
        const isLeft = action === 'dead_letters.discard' && (target === '*' || impact.jobs > 0);
        const absence = isLeft ? null : await absenceOf(tx, target);
        if (absence !== null) throw absence;
        const phrase = phraseOf(action, target, impact);
        const made = await tx.one(insertAction, [
          ...[action, target, JSON.stringify(params), reason, by.actor, by.request_id],
          ...[JSON.stringify(impact), phrase, valid_seconds],
        ]);
        await audit(tx, by, {
          ...{ action: 'action.propose', target: idOf(made.id), reason },
          facts: { kind: action, target, params, impact },
        });
        return made;
      }),
    find: (id) => db.maybeOne(findAction, [id]),
    async page(limit, cursor) {
      const question = JSON.stringify(['actions', tenant]);
      const from = pageFrom(cursor, [aboveAll], question, secret);
      const looked = looksAt(limit, false);
      const { shown, last } = cut(await db.many(walkActions, [from[0], looked]), looked, limit);
      return { items: shown, next_cursor: nextPage(last && [last.id], question, secret) };
    },
    async confirm(id, phrase, by) {
      const came = await db.transaction(async (tx) => {
        const action = await tx.maybeOne(lockAction, [id]);
        return action === undefined ? undefined : decide(tx, action, phrase, by);
      });
      if (came === undefined) return undefined;
      if ('confirm_phrase' in came) throw changed(came);
      onDue();
      return came;
    },
    withdraw: (id, by) =>
      db.transaction(async (tx) => {
        const action = await tx.maybeOne(lockAction, [id]);
        if (action === undefined) return false;
        if (action.state === 'withdrawn') return true;
        if (action.state === 'confirmed') {
          throw new Problem('operation-state-conflict', {
            detail: `action ${idOf(id)} was confirmed; cancel or undo operation ${action.operation_id}`,
          });
        }
        await tx.many(withdrawAction, [id]);
        await audit(tx, by, { action: 'action.withdraw', target: idOf(id), facts: { kind: action.action } });
        return true;
      }),
  };
}

/** The id of an action as it is shown. */
export function idOf(id: string): string {
  return `act_${id}`;
}

async function extentOf(db: Db, proposal: Proposal): Promise<Extent> {
  if (proposal.action === 'dead_letters.discard') {
    const { filter, limit } = proposal.params;
    return limitedTo(await countFitting(db, filter), limit);
  }
  const { filter, states, limit } = proposal.params;
  const extent = await waitingExtent(db, proposal.target, filter, states);
  if (!states.includes('running')) return limitedTo(extent, limit);
  const ids = (await lanesMeant(db, proposal.target, filter.types)).map(({ id }) => id);
  const { running } = await db.one(countRunning, [ids, ...askedOf(filter), most_counted]);
  return limitedTo({ ...extent, running }, limit);
}

/** Blocks, later ones, and jobs that are looked at for a filter: counting stops there. */
const most_counted = 20_000;

/** How many jobs of a queue wait that fit, counted no further than a bound; those that run are not counted. */
export async function waitingExtent(
  db: Db,
  queue: string,
  filter: JobFilter,
  states: readonly (WaitingState | 'running')[],
): Promise<Extent> {
  const lanes = await lanesMeant(db, queue, filter.types);
  const ids = lanes.map(({ id }) => id);
  const asked = [...askedOf(filter), asksJobs(filter), states, most_counted];
  const { jobs, at_least, oldest } = await db.one(countWaiting, [ids, most_counted, ...asked]);
  return { jobs, at_least, oldest: oldest?.toISOString() ?? null };
}

function phraseOf(kind: DangerousKind, target: string, { jobs, at_least, running }: Extent): string {
  const phrase = `${verbs[kind]} ${target} ${jobs}${at_least ? '+' : ''}`;
  return running === undefined ? phrase : `${phrase} and ${running} running`;
}

function tooLate(action: ActionFacts): Problem {
  const why =
    action.state === 'withdrawn' ? 'was withdrawn' : `expired at ${action.expires_at.toISOString()}`;
  return new Problem('action-expired', { detail: `action ${idOf(action.id)} ${why}; propose it again` });
}

function mistyped({ id }: ActionFacts): Problem {
  return new Problem('confirmation-mismatch', {
    detail: `phrase is not the confirm_phrase of action ${idOf(id)}; type it as it is shown`,
    errors: [
      { pointer: '#/phrase', code: 'custom', detail: 'is not the confirm_phrase; type it as it is shown' },
    ],
  });
}

function changed({ id, impact, confirm_phrase }: ActionFacts): Problem {
  return new Problem('impact-changed', {
    detail: `action ${idOf(id)} would meet ${impact.jobs} jobs now; confirm it by the new phrase`,
    extra: { impact, confirm_phrase },
  });
}
