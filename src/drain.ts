// How the program stops without losing anything: first the claiming, then the waiting, then the door, then the rest.
// Invariants: whoever holds a lease can complete it as long as jobs run here; all of it ends by the deadline.
// Next room: roles/service.ts, which bounds every stop.
import type { EventBus } from './events.ts';
import { endBy, type Service, stopAll } from './roles/service.ts';

export interface DrainOptions {
  /** How far it has come, for probes and for the API. */
  leave: { draining: boolean; leaving: boolean };
  /** How long balancers get to notice. */
  delay_ms: number;
  most_ms: number;
  events: EventBus;
  runners: readonly Service[];
  /** The API; `quiet` waits until no newcomers arrive. */
  front: Service & { quiet(until: number): Promise<void> };
  services: readonly Service[];
  /** Those with callers who wait. */
  crowds: readonly { drain(): void }[];
  close(): Promise<void>;
}

/** Builds the drain; `atOnce` skips the time that balancers get. */
export function draining(options: DrainOptions): (atOnce: boolean) => Promise<void> {
  const { leave, events, runners, front, services, crowds, close } = options;
  return async (atOnce) => {
    leave.draining = true;
    const deadline = performance.now() + options.most_ms;
    events.emit('service.said', { level: 'info', message: 'draining' });
    // Claiming stops at once; the API serves on, leases included, until balancers have noticed. Its answers close their
    // connections, so that callers who keep theirs go elsewhere before the door closes.
    const workDone = Promise.all(runners.map((runner) => runner.stop(deadline - closing_ms)));
    const delay = atOnce ? 0 : options.delay_ms;
    await new Promise((resolve) => setTimeout(resolve, delay));
    // One that is slower still sends newcomers, and a door that closes before them fails them.
    if (delay > 0) await front.quiet(Math.min(performance.now() + delay, deadline - 2 * closing_ms));
    leave.leaving = true;
    // Whoever waits is answered now. The door stays open as long as jobs run here: workers and targets that hold a lease
    // keep and complete it, and probes are told the truth.
    for (const crowd of crowds) crowd.drain();
    const rest = services.filter((service) => service !== front && !runners.includes(service));
    const failures = [
      ...(await failureOf(endBy(deadline, 'what runs jobs', workDone))),
      ...(await failureOf(endBy(deadline, 'the API', front.stop(deadline)))),
      ...(await stopAll(rest, deadline)),
      // A server that hangs never ends its connections.
      ...(await failureOf(endBy(deadline, 'the connections to postgres', close()))),
    ];
    for (const error of failures) events.emit('store.error', { where: 'drain', error });
    events.emit('service.said', { level: 'info', message: 'drained' });
  };
}

/** What is left of a drain for the requests under way, once nothing runs any more. */
const closing_ms = 1_000;

async function failureOf(ending: Promise<void>): Promise<unknown[]> {
  return ending.then(
    () => [],
    (error: unknown) => [error],
  );
}
