// Refuses submits to queues that hold more than their limits allow, so that what was taken in is still done in time.
// Invariants: what is critical passes; schedules, callbacks, retries and what an idempotency key names already never come by
// here; a queue without limits costs two looks into memory.
// Next room: domain/guard.ts decides; submit.ts and submit-all.ts ask.
import { drainOf } from '../domain/flow.ts';
import { closedBy, type Limit, opensInSeconds } from '../domain/guard.ts';
import { Problem } from '../domain/problem.ts';
import type { QueueSettings } from '../domain/queue-settings.ts';
import type { EventBus } from '../events.ts';
import type { Levers } from './levers.ts';
import type { Line, Statistics } from './statistics.ts';

interface Closed {
  since: number;
  by: Limit;
}

export class Guards {
  #levers: Pick<Levers, 'settingsOf'>;
  #statistics: Statistics;
  #events: EventBus;
  #closed = new Map<string, Closed>();

  constructor(options: { levers: Pick<Levers, 'settingsOf'>; statistics: Statistics; events: EventBus }) {
    this.#levers = options.levers;
    this.#statistics = options.statistics;
    this.#events = options.events;
  }

  /** Whether a queue has limits at all for jobs of a priority: most have none, and are not looked at further. */
  concerns(queue: string, priority: number): boolean {
    const settings = this.#levers.settingsOf(queue);
    return (
      hasLimits(settings) && (settings.critical_priority === null || priority > settings.critical_priority)
    );
  }

  /** Why a job is not taken in now; null: it is. Ask `concerns` first. */
  async refusal(queue: string): Promise<Problem | null> {
    const line = this.#statistics.peek(queue) ?? (await this.#statistics.line(queue));
    const settings = this.#levers.settingsOf(queue);
    const closed = this.#judge(queue, settings, line);
    return closed === null ? null : this.#problem(queue, settings, line, closed);
  }

  /** Opens what may be opened; called once a second. */
  look(): void {
    for (const queue of this.#closed.keys()) {
      const settings = this.#levers.settingsOf(queue);
      if (!hasLimits(settings)) this.#open(queue);
      else {
        const line = this.#statistics.peek(queue);
        if (line !== undefined) this.#judge(queue, settings, line);
      }
    }
  }

  #judge(queue: string, settings: QueueSettings, line: Line): Closed | null {
    const known = this.#closed.get(queue);
    const by = closedBy(settings, this.#backlogOf(line), known !== undefined);
    if (by === null) {
      if (known !== undefined) this.#open(queue);
      return null;
    }
    if (known !== undefined) {
      known.by = by;
      return known;
    }
    const closed = { since: performance.now(), by };
    this.#closed.set(queue, closed);
    this.#events.emit('guard.moved', { queue, closed_by: by });
    return closed;
  }

  #open(queue: string): void {
    this.#closed.delete(queue);
    this.#events.emit('guard.moved', { queue, closed_by: null });
  }

  #backlogOf(line: Line) {
    return { queued: this.#statistics.queuedNow(line), oldest_age_ms: line.oldest_age_ms };
  }

  #problem(queue: string, settings: QueueSettings, line: Line, { since, by }: Closed): Problem {
    const backlog = this.#backlogOf(line);
    const seconds = opensInSeconds(settings, backlog, drainOf(line.samples, since));
    const found =
      by === 'max_depth'
        ? `${backlog.queued} ready jobs of at most ${settings.max_depth}`
        : `a ready job that is ${Math.round((backlog.oldest_age_ms ?? 0) / 1_000)} s old of at most ${settings.max_oldest_age_seconds} s`;
    return new Problem('queue-saturated', {
      detail: `queue "${queue}" holds ${found}; try again after Retry-After${passing(settings)}`,
      headers: { 'retry-after': String(spread(seconds)) },
      extra: { reason: by },
    });
  }
}

/** Which priorities are taken all the same, in the words of a remedy. */
function passing({ critical_priority }: QueueSettings): string {
  if (critical_priority === null) return '';
  return `, or with priority ${critical_priority === 0 ? '0' : `0 to ${critical_priority}`}, which is taken now`;
}

/** Up to a tenth more, in whole seconds: those who were refused together do not return together. */
function spread(seconds: number): number {
  return seconds + Math.floor(Math.random() * (Math.floor(seconds / 10) + 1));
}

function hasLimits({ max_depth, max_oldest_age_seconds }: QueueSettings): boolean {
  return max_depth !== null || max_oldest_age_seconds !== null;
}
