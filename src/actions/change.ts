// Changes a job that waits, and makes one that ended run again.
// Invariants: a job that has started is left alone; of two changes at once the second is judged by what the first left; a
// repeat is made once, however often it is asked for.
// Next room: store/changes.ts.
import { isTerminal, type JobState } from '../domain/job.ts';
import { callbackType, pushRoute } from '../domain/options.ts';
import type { Problem } from '../domain/problem.ts';
import type { NamedFacts } from '../domain/record.ts';
import { tenant } from '../domain/tenant.ts';
import { holds } from '../domain/unique.ts';
import type { EventBus } from '../events.ts';
import { changeJob, type JobChange } from '../store/changes.ts';
import type { Pool } from '../store/db.ts';
import type { Lanes } from '../store/lanes.ts';
import { findSuccessors, repeatJobs } from '../store/repeats.ts';
import { findHolders } from '../store/unique.ts';
import type { Inspect } from './inspect.ts';
import { tellOfRepeats } from './news.ts';
import type { Ready } from './ready.ts';

/** What a caller may change; absent = as it is. `run_at` null = due now. */
export interface Patch {
  queue?: string | undefined;
  priority?: number | undefined;
  run_at?: string | null | undefined;
  max_attempts?: number | undefined;
  tags?: readonly string[] | undefined;
}

/** What the attempt to change a job came to. */
export type ChangeAnswer =
  | { kind: 'changed' }
  | { kind: 'absent' }
  /** It has started, or it kept moving. */
  | { kind: 'conflict'; state: JobState };

/** What the attempt to run a job again came to. */
export type RetryAnswer =
  | { kind: 'retried'; id: string }
  /** Another job holds its unique key. */
  | { kind: 'held'; holder: string; state: JobState }
  | Exclude<ChangeAnswer, { kind: 'changed' }>;

export interface Change {
  /** Changes a job that has not started; `check` may throw when the job is not as its caller believes. */
  change(id: string, patch: Patch, check: (facts: NamedFacts) => void): Promise<ChangeAnswer>;
  /** Runs a job that waits for its next attempt now; repeats one that is dead, cancelled or expired. */
  retry(id: string): Promise<RetryAnswer>;
}

const tries = 20;

export function changing(options: {
  db: Pool;
  inspect: Inspect;
  lanes: Lanes;
  ready: Ready;
  events: EventBus;
  /** A job falls due in `ms`. */
  onLater: (ms: number) => void;
  /** Why a queue takes no job; null: it does. */
  closed: (queue: string, pointer: string) => Problem | null;
}): Change {
  const { db, inspect, lanes, ready, events, onLater, closed } = options;

  /** A job may move between the look and the change, so a change that found nothing looks again. */
  async function change(id: string, patch: Patch, check: (facts: NamedFacts) => void): Promise<ChangeAnswer> {
    let found: JobState = 'running';
    for (let n = 0; n < tries; n++) {
      const facts = await inspect.job(id);
      if (facts === undefined) return { kind: 'absent' };
      check(facts);
      found = facts.state;
      if (found === 'running' || isTerminal(found)) return { kind: 'conflict', state: found };
      const refusal =
        patch.queue === undefined || patch.queue === facts.queue ? null : closed(patch.queue, '#/queue');
      if (refusal !== null) throw refusal;
      const seen = { epoch: facts.epoch, patches: facts.patches ?? 0 };
      const changed = await changeJob(db, id, seen, await changeOf(patch, facts));
      if (changed === undefined) continue;
      const { lane, state, was_lane, was_state } = changed;
      if (lane !== was_lane || state !== was_state) {
        events.emit('jobs.moved', {
          jobs: 1,
          from: { lane: was_lane, state: was_state },
          to: { lane, state },
        });
      }
      if (changed.block === null) onLater(changed.due_in_ms);
      // It may stand before what a cursor has passed.
      else ready.announce([changed], BigInt(changed.block));
      return { kind: 'changed' };
    }
    return { kind: 'conflict', state: found };
  }

  async function changeOf(patch: Patch, facts: NamedFacts): Promise<JobChange> {
    const { queue } = patch;
    const route = facts.options?.target === undefined ? facts.type : pushRoute(facts.type);
    const follows = queue !== undefined && facts.options?.callback !== undefined;
    return {
      lane: queue === undefined ? null : (await lanes.named(queue, route)).id,
      callback_lane: follows ? (await lanes.named(queue, pushRoute(callbackType))).id : null,
      priority: patch.priority ?? null,
      run_at: patch.run_at ?? null,
      due_now: patch.run_at === null,
      max_attempts: patch.max_attempts ?? null,
      tags: patch.tags ?? null,
    };
  }

  /** A repeat that is made already is answered as before. What comes between the look and the repeat parks the repeat. */
  async function heldByOther({ id, options: of }: NamedFacts): Promise<RetryAnswer | null> {
    if (of?.unique === undefined) return null;
    const [holder] = await db.many(findHolders, [tenant, [of.unique.key]]);
    if (holder === undefined || !holds(holder)) return null;
    const made = await db.maybeOne(findSuccessors, [[id]]);
    return made === undefined
      ? { kind: 'held', holder: holder.job_id, state: holder.state as JobState }
      : null;
  }

  async function repeat(facts: NamedFacts): Promise<string> {
    const refusal = closed(facts.queue, '#/queue');
    const asked = { job_id: facts.id, lane: null, callback_lane: null };
    const [made] = refusal === null ? await repeatJobs(db, [asked], 'unhappy') : [];
    if (made === undefined) {
      const known = await db.maybeOne(findSuccessors, [[facts.id]]);
      if (known === undefined)
        throw refusal ?? new Error(`job ${facts.id} has no repeat and cannot have one`);
      return known.id;
    }
    await tellOfRepeats([made], { lanes, ready, events, onLater });
    return made.id;
  }

  return {
    change,
    async retry(id) {
      for (let n = 0; n < tries; n++) {
        const facts = await inspect.job(id);
        if (facts === undefined) return { kind: 'absent' };
        const { state } = facts;
        if (state === 'dead' || state === 'cancelled' || state === 'expired') {
          return (await heldByOther(facts)) ?? { kind: 'retried', id: await repeat(facts) };
        }
        // What waits to be run already is what was asked for.
        if (state === 'queued') return { kind: 'retried', id };
        if (state !== 'retrying') return { kind: 'conflict', state };
        const answer = await change(id, { run_at: null }, () => {});
        if (answer.kind === 'changed') return { kind: 'retried', id };
        if (answer.kind === 'absent') return answer;
      }
      return { kind: 'conflict', state: 'running' };
    },
  };
}
