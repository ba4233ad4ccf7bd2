// Begins operations, shows them, and steers them between two of their steps.
// Invariants: a key begins one operation, however often it is sent; an operation that is over is never steered; each call that
// changes one leaves a row in the audit.
// Next room: stepping.ts, which takes the steps; domain/operation.ts.
import type { By } from '../domain/actor.ts';
import type { RequestKey } from '../domain/idempotency.ts';
import type { OperationFacts, OperationKind, OperationState, Phase } from '../domain/operation.ts';
import { cut, looksAt, nextPage, pageFrom } from '../domain/page.ts';
import { Problem } from '../domain/problem.ts';
import { tenant } from '../domain/tenant.ts';
import { audit } from '../store/audit.ts';
import type { Db, Pool } from '../store/db.ts';
import {
  findByKey,
  findOperation,
  type ItemFacts,
  insertOperation,
  lockOperation,
  type NewOperation,
  notifyOperation,
  steer,
  walkItems,
  walkOperations,
} from '../store/operations.ts';

export interface OperationPage {
  items: OperationFacts[];
  next_cursor: string | null;
}

export interface ItemPage {
  items: ItemFacts[];
  next_cursor: string | null;
}

/** What is done to an operation under way. Undefined: there is none of that id. */
type Steer = (id: string, by: By) => Promise<OperationFacts | undefined>;

export interface Operations {
  /** Begins one, unless `refusal` says why not; `replayed`: the key has begun it before, which is never refused. */
  begin(
    wish: NewOperation,
    key: RequestKey | null,
    by: By,
    refusal?: Problem | null,
  ): Promise<{ operation: OperationFacts; replayed: boolean }>;
  find(id: string): Promise<OperationFacts | undefined>;
  page(
    filter: { kind?: OperationKind | undefined; state?: OperationState | undefined },
    limit: number,
    cursor?: string,
  ): Promise<OperationPage>;
  items(
    id: string,
    outcome: string | undefined,
    limit: number,
    cursor?: string,
  ): Promise<ItemPage | undefined>;
  /** No further step; what is only set aside is put back. */
  cancel: Steer;
  /** Puts everything back that was set aside. */
  undo: Steer;
  /** Goes on after a pause or a failure. */
  resume: Steer;
  /** Says, here and elsewhere, that a step is due. */
  tell(): void;
}

const aboveAll = '9223372036854775807';

export interface OperationOptions {
  db: Pool;
  secret: Buffer;
  /** A step is due now. */
  onDue: () => void;
  onError: (error: unknown) => void;
}

export function operating({ db, secret, onDue, onError }: OperationOptions): Operations {
  /** Steps are taken by processes that move jobs; this one may be none of them. */
  function tell(): void {
    onDue();
    db.many(notifyOperation).catch(onError);
  }

  function steering(
    verb: string,
    decide: (now: OperationFacts & { can_undo: boolean }) => Way | null,
  ): Steer {
    return async (id, by) => {
      const after = await db.transaction(async (tx) => {
        const now = await tx.maybeOne(lockOperation, [id]);
        if (now === undefined) return undefined;
        const way = decide(now);
        if (way === null) return tx.one(findOperation, [id]);
        await tx.many(steer, [id, way.state, way.phase, way.state === 'running']);
        await audit(tx, by, { action: `operation.${verb}`, target: id, facts: { kind: now.kind } });
        return tx.one(findOperation, [id]);
      });
      if (after?.state === 'running') tell();
      return after;
    };
  }

  return {
    async begin(wish, key, by, refusal = null) {
      const begun = await db.transaction(async (tx) => {
        const begun = await beginWithin(tx, wish, key, by);
        if (refusal !== null && !begun.replayed) throw refusal;
        return begun;
      });
      if (!begun.replayed) tell();
      return begun;
    },
    tell,
    find: (id) => db.maybeOne(findOperation, [id]),

    async page({ kind, state }, limit, cursor) {
      const question = JSON.stringify(['operations', tenant, kind ?? null, state ?? null]);
      const from = pageFrom(cursor, [aboveAll], question, secret);
      const looked = looksAt(limit, kind !== undefined || state !== undefined);
      const walked = await db.many(walkOperations, [from[0], kind ?? null, state ?? null, looked]);
      const { shown, last } = cut(walked, looked, limit, ({ hit }) => hit);
      return {
        items: shown.map(({ hit: _, ...facts }) => facts),
        next_cursor: nextPage(last && [last.id], question, secret),
      };
    },

    async items(id, outcome, limit, cursor) {
      if ((await db.maybeOne(findOperation, [id])) === undefined) return undefined;
      const question = JSON.stringify(['items', id, outcome ?? null]);
      const from = pageFrom(cursor, ['0'], question, secret);
      const looked = looksAt(limit, false);
      const walked = await db.many(walkItems, [id, from[0], outcome ?? null, looked]);
      const { shown, last } = cut(walked, looked, limit);
      return { items: shown, next_cursor: nextPage(last && [last.job_id], question, secret) };
    },

    cancel: steering('cancel', (now) => {
      if (now.state === 'cancelled') return null;
      refuseOver(now, 'cancelled');
      if (now.phase === 'withdraw' || now.phase === 'undo') return null;
      const setsAside = now.phase === 'mark' || now.phase === 'hold' || now.phase === 'sweep';
      return setsAside ? { state: 'running', phase: 'withdraw' } : { state: 'cancelled', phase: now.phase };
    }),
    undo: steering('undo', (now) => {
      if (now.state === 'undone' || now.phase === 'undo') return null;
      if ((now.phase !== 'mark' && now.phase !== 'hold') || !now.can_undo) throw tooLate(now);
      return { state: 'running', phase: 'undo' };
    }),
    resume: steering('resume', (now) => {
      if (now.state === 'running') return null;
      if (now.state !== 'paused' && now.state !== 'failed') refuseOver(now, 'resumed');
      // Only a canary that was seen to its end lets the others go.
      return { state: 'running', phase: now.pause_reason === 'canary' ? 'work' : now.phase };
    }),
  };
}

/** Where an operation is to go. */
interface Way {
  state: OperationState;
  phase: Phase;
}

/** Begins an operation in the transaction of whoever wants it. */
export async function beginWithin(
  tx: Db,
  wish: NewOperation,
  key: RequestKey | null,
  by: By,
): Promise<{ operation: OperationFacts; replayed: boolean }> {
  const { kind, target, params, reason, phase, expected } = wish;
  const made = await tx.maybeOne(insertOperation, [
    ...[kind, target, JSON.stringify(params), reason, phase, JSON.stringify(expected)],
    ...[by.actor, by.request_id, key?.key ?? null, key?.print ?? null],
  ]);
  if (made !== undefined) {
    await audit(tx, by, { action: kind, target, reason, facts: { operation: made.id, params, expected } });
    return { operation: await tx.one(findOperation, [made.id]), replayed: false };
  }
  const known = await tx.one(findByKey, [tenant, key?.key]);
  if (key === null || !known.print.equals(key.print)) {
    throw new Problem('idempotency-key-reused', {
      detail: `this idempotency-key has begun operation ${known.id}, by another request; use a new key`,
    });
  }
  return { operation: await tx.one(findOperation, [known.id]), replayed: true };
}

function refuseOver(now: OperationFacts, verb: string): void {
  if (now.state === 'running' || now.state === 'paused' || now.state === 'failed') return;
  throw new Problem('operation-state-conflict', {
    detail: `operation ${now.id} is ${now.state} and cannot be ${verb}; begin another, or read what it did at /v1/operations/${now.id}`,
  });
}

function tooLate(now: OperationFacts): Problem {
  return new Problem('operation-state-conflict', {
    detail:
      now.undo_until === null
        ? `operation ${now.id} is ${now.state} and has set nothing aside that could be put back`
        : `the undo window of operation ${now.id} ended at ${now.undo_until.toISOString()}`,
  });
}
