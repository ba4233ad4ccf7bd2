// Whether a queue takes a job, and how its caller is answered there (docs/contract.md, Refused up front).
// Invariants: a demand that cannot be met is refused before anything is stored; a wish that is not granted is no refusal;
// the first reason that holds is told, in one order.
// Next room: actions/accept.ts, which knows what is set; expectation.ts, where the mode comes from.
import { type AnswerMode, atOnce, refusedMode, type SyncExpectation, waitingFor } from './expectation.ts';
import { Problem } from './problem.ts';
import type { QueueSettings } from './queue-settings.ts';

/** A pause that is in force. */
export interface PauseInForce {
  /** What is paused: the queue, or this type alone. */
  readonly of: 'queue' | 'type';
  readonly since: Date;
  readonly until: Date | null;
  readonly reason: string | null;
}

/** A drain that is in force. */
export interface DrainInForce {
  readonly since: Date;
  readonly deadline: Date | null;
  readonly reason: string | null;
}

/** What is set of the queue a job goes to. */
export interface Standing {
  readonly queue: string;
  readonly settings: QueueSettings;
  readonly pause: PauseInForce | null;
  readonly drain: DrainInForce | null;
  readonly now: Date;
}

/** What matters of the job. */
export interface Asked {
  readonly type: string;
  readonly hasKey: boolean;
  /** Seconds from now until it is due. */
  readonly due_in: number;
  /** Seconds from now until it will have ended, by the present rates; null: nobody knows. */
  readonly estimate: number | null;
}

/** How a caller is answered in a queue: the time it waits, and whether it waits at all. */
export function modeIn(settings: QueueSettings, mode: AnswerMode, cap_seconds: number): AnswerMode {
  if (mode.kind === 'soft' && settings.sync === 'async_only') return atOnce(mode);
  if (mode.kind === 'sync' && settings.default_wait_seconds !== null && mode.preferenceApplied === null) {
    return waitingFor(mode, Math.min(settings.default_wait_seconds, cap_seconds));
  }
  return mode;
}

/** Why a job is not taken; null: it is. */
export function refusalIn(standing: Standing, { type, hasKey, due_in, estimate }: Asked, mode: AnswerMode) {
  const { queue, settings, pause, drain, now } = standing;
  if (drain !== null && mode.kind !== 'sync') return draining(queue, drain, now);
  if (settings.require_idempotency_key && !hasKey) {
    return new Problem('idempotency-key-missing', {
      detail: `queue "${queue}" takes only submits with an idempotency-key; send one`,
    });
  }
  if (mode.kind === 'async') {
    return settings.sync === 'sync_only'
      ? impossible(
          'queue_sync_only',
          `queue "${queue}" takes only submits whose caller waits; expect an outcome or prefer wait=N`,
        )
      : null;
  }
  if (mode.kind === 'soft') return null;
  const { expectation, wait_seconds } = mode;
  const wait = `the wait of ${wait_seconds} s`;
  if (drain !== null)
    return impossible(
      'queue_draining',
      `queue "${queue}" is being drained and takes no jobs; submit elsewhere`,
    );
  if (settings.sync === 'async_only') {
    return impossible(
      'queue_async_only',
      `queue "${queue}" answers every submit by a 202; send it without the expectation`,
    );
  }
  if (pause !== null && !endsWithin(pause, now, wait_seconds)) {
    const what = pause.of === 'queue' ? `queue "${queue}"` : `type "${type}" in queue "${queue}"`;
    return impossible('queue_paused', `${what} is paused beyond ${wait}; take a 202 and follow its Location`);
  }
  const outcome = Object.hasOwn(settings.types, type) ? (settings.types[type]?.outcome ?? null) : null;
  if (outcome !== null && suited[outcome] !== expectation) {
    return impossible(
      'outcome_mismatch',
      `jobs of type "${type}" suit ${suited[outcome]}; expect that instead of ${expectation}`,
    );
  }
  if (due_in > wait_seconds) {
    return impossible(
      'run_at_beyond_wait',
      `the job is due in ${Math.ceil(due_in)} s, after ${wait}; take a 202 and follow its Location`,
    );
  }
  if (settings.refuse_late_waits && estimate !== null && estimate > wait_seconds) {
    return impossible(
      'estimate_exceeds_wait',
      `at the present rates the job ends in ${Math.ceil(estimate)} s, after ${wait}; take a 202 and follow its Location`,
    );
  }
  return null;
}

/** That a queue takes no jobs because it is drained. */
export function draining(queue: string, { deadline }: DrainInForce, now: Date): Problem {
  const left = deadline === null ? 0 : Math.ceil((deadline.getTime() - now.getTime()) / 1_000);
  return new Problem('queue-draining', {
    detail: `queue "${queue}" is being drained and takes no jobs until it is resumed; submit elsewhere, or later`,
    headers: { 'retry-after': String(left > 0 ? Math.min(left, longest_seconds) : unknown_seconds) },
    extra: { deadline: deadline?.toISOString() ?? null },
  });
}

const unknown_seconds = 60;
const longest_seconds = 3_600;

const suited = {
  none: '204-no-content',
  result: '200-ok',
  resource: '201-created',
} as const satisfies Record<string, SyncExpectation>;

function endsWithin({ until }: PauseInForce, now: Date, seconds: number): boolean {
  return until !== null && until.getTime() - now.getTime() <= seconds * 1_000;
}

function impossible(reason: string, detail: string): Problem {
  return new Problem('expectation-impossible', {
    detail,
    headers: { 'errand-mode': refusedMode },
    extra: { reason },
  });
}
