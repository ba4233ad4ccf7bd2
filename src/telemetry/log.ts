// Every log line, as JSON on stdout. An allowlist by construction: events carry ids, names, states and numbers, never
// payloads, headers or query strings.
// Next room: events.ts says what can happen.
import type { EventBus } from '../events.ts';

const levels = ['debug', 'info', 'warn', 'error', 'silent'] as const;
/** How much is logged. */
export type Level = (typeof levels)[number];

/** Prints events from `least` on; `always` is in every line. */
export function logEvents(
  events: EventBus,
  least: Level,
  write: (line: string) => void,
  always: Readonly<Record<string, unknown>> = {},
): void {
  const say = (level: Level, message: string, fields: Record<string, unknown>): void => {
    if (levels.indexOf(level) < levels.indexOf(least)) return;
    write(`${JSON.stringify({ time: new Date().toISOString(), level, message, ...always, ...fields })}\n`);
  };
  events.on('service.said', ({ level, message, ...fields }) => say(level, message, fields));
  events.on('job.submitted', (event) => say('debug', 'job submitted', event));
  events.on('job.claimed', (event) => say('debug', 'job claimed', event));
  events.on('job.ended', (event) => {
    const level = event.outcome === 'dead' || event.outcome === 'lost' ? 'warn' : 'debug';
    say(level, 'attempt ended', { ...event });
  });
  events.on('progress.dropped', (event) => say('warn', 'a progress was dropped', { ...event }));
  events.on('target.answered', (event) => say('debug', 'a target answered', { ...event }));
  events.on('lease.refused', (event) => say('info', 'a stale lease was refused', event));
  events.on('invariant.violated', (event) => say('error', 'invariant violated', event));
  events.on('slot.decided', ({ outcome, ...event }) =>
    say(outcome === 'on_time' ? 'debug' : 'info', 'slot decided', { outcome, ...event }),
  );
  events.on('schedule.failed', ({ schedule, error }) =>
    say('error', 'a schedule could not be fired and is tried again', { schedule, ...reason(error) }),
  );
  events.on('guard.moved', ({ queue, closed_by }) =>
    closed_by === null
      ? say('info', 'a queue takes jobs again', { queue })
      : say('warn', 'a queue takes no more jobs', { queue, closed_by }),
  );
  events.on('counter.drifted', (event) => say('warn', 'a counter was wrong and is mended', event));
  events.on('recount.gave_up', (event) =>
    say('warn', 'a lane is too large to be recounted: its depth is told as it was counted', event),
  );
  events.on('operation.moved', (event) => say('info', 'operation', event));
  events.on('operation.failed', ({ operation, kind, error }) =>
    say('error', 'a step of an operation failed', { operation, kind, ...reason(error) }),
  );
  events.on('leader.elected', (event) => say('info', 'this process leads the dispatchers', event));
  events.on('leader.lost', (event) => say('info', 'this process no longer leads', event));
  events.on('term.fenced', (event) => say('warn', 'a write in a term that is over was kept out', event));
  events.on('chore.failed', ({ chore, error }) =>
    say('error', 'a loop failed and goes on', { chore, ...reason(error) }),
  );
  events.on('store.error', ({ where, error }) =>
    say('warn', 'the store is in trouble', { where, ...reason(error) }),
  );
  events.on('http.error', ({ request_id, error }) =>
    say('error', 'a request failed', { request_id, ...reason(error) }),
  );
}

function reason(error: unknown): Record<string, unknown> {
  if (!(error instanceof Error)) return { error: String(error) };
  const cause = error.cause instanceof Error ? { cause: error.cause.message } : {};
  const code = 'code' in error ? { code: error.code } : {};
  return { error: error.message, ...code, ...cause, at: error.stack?.split('\n')[1]?.trim() };
}
