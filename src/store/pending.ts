// Actions that wait for their phrase.
// Invariant: an action is confirmed once; its row says by which operation.
// Next room: actions/dangerous.ts.
import type { Extent, OperationKind } from '../domain/operation.ts';
import { sql } from './sql.ts';

export interface ActionFacts {
  id: string;
  action: Exclude<OperationKind, 'dead_letters.redrive' | 'queue.reroute'>;
  target: string;
  params: object;
  reason: string | null;
  actor: string;
  state: 'pending' | 'confirmed' | 'withdrawn';
  expired: boolean;
  impact: Extent;
  confirm_phrase: string;
  operation_id: string | null;
  created_at: Date;
  expires_at: Date;
}

export const insertAction = sql<ActionFacts>`
insert into errand.action (action, target, params, reason, actor, request_id, impact, confirm_phrase, expires_at)
values ($1, $2, $3::jsonb, $4, $5, $6, $7::jsonb, $8, errand.now() + $9::int * interval '1 s')
returning *, false expired`;

export const findAction = sql<ActionFacts>`
select *, expires_at <= errand.now() expired from errand.action where id = $1::bigint`;

export const lockAction = sql<ActionFacts>`
select *, expires_at <= errand.now() expired from errand.action where id = $1::bigint for update`;

/** Actions, the newest first: $1 below which id, $2 how many. */
export const walkActions = sql<ActionFacts>`
select *, expires_at <= errand.now() expired from errand.action where id < $1::bigint order by id desc limit $2::int`;

/** It would meet others now: $2 what, $3 the phrase for that. */
export const refreshAction = sql<never>`
update errand.action set impact = $2::jsonb, confirm_phrase = $3 where id = $1::bigint`;

export const confirmAction = sql<never>`
update errand.action set state = 'confirmed', operation_id = $2::bigint where id = $1::bigint`;

export const withdrawAction = sql<never>`update errand.action set state = 'withdrawn' where id = $1::bigint`;
