// Several processes behind one port, to use more cores of one machine: this one prepares the database, forks them, starts
// another where one died, and ends when all have drained. It serves nothing itself.
// Invariants: the end of one process never ends the others; a service that cannot start, or of which nothing is left, ends
// with its reason instead of trying for ever; every wait for a process is limited.
// Next room: forked.ts, one of them; place.ts, what they say; docs/adr/0026-several-processes-behind-one-port.md.
import { type ComposeOptions, type Errand, prepare } from '../compose.ts';
import type { Config } from '../config.ts';
import { EventBus } from '../events.ts';
import { logEvents } from '../telemetry/log.ts';
import { mergeTexts } from '../telemetry/metrics.ts';
import { type Forked, forking } from './forked.ts';
import type { Up } from './place.ts';

export interface PrimaryOptions extends Pick<ComposeOptions, 'migrate' | 'signal'> {
  /** Called once no process serves and none can be started any more. */
  onGivenUp: (reason: string) => void;
}

/** What a process needs beyond the deadline of its drain to be gone, in ms. */
const spare_ms = 3_000;

/** So often in a row a process has ended, last at its start, when hope is given up, if no other serves. */
const most_failures = 5;

/** Starts ERRAND_PROCESSES processes; throws with the reason when one cannot start. */
export async function composeMany(config: Config, options: PrimaryOptions): Promise<Omit<Errand, 'actions'>> {
  const events = new EventBus();
  logEvents(events, config.ERRAND_LOG_LEVEL, (line) => process.stdout.write(line));
  const { embedded } = await prepare(config, events, options);
  const all: Forked[] = Array.from({ length: config.ERRAND_PROCESSES }, (_, i) =>
    forking({
      number: i + 1,
      events,
      metricsOfAll: async () => {
        const texts = await Promise.all(all.map((one) => one.metrics()));
        return mergeTexts(texts.filter((text) => text !== null));
      },
      onFailed: (failures, reason) => {
        if (failures < most_failures || all.some((one) => one.isUp())) return;
        const giveUp = () => options.onGivenUp(`no process is left and none can be started: ${reason}`);
        drain(true).then(giveUp, giveUp);
      },
    }),
  );
  const drain = async (atOnce: boolean) => {
    const deadline_ms = config.ERRAND_DRAIN_DEADLINE_SECONDS * 1_000 + spare_ms;
    const ends = await Promise.all(all.map((one) => one.end(atOnce ? 'SIGINT' : 'SIGTERM', deadline_ms)));
    await embedded?.stop();
    const bad = ends.find((end) => end !== null);
    if (bad) throw new Error(bad);
  };
  const onAbort = () => void drain(true).catch(() => {});
  options.signal?.addEventListener('abort', onAbort, { once: true });
  try {
    options.signal?.throwIfAborted();
    const told = await startAll(all.map((one) => () => one.start()));
    options.signal?.removeEventListener('abort', onAbort);
    return { ...told, events, embedded, drain };
  } catch (error) {
    await drain(true).catch(() => {});
    throw error;
  }
}

/** The first alone: what keeps all of them from starting is told once, and what is made at the first start is made once. */
async function startAll([first, ...others]: readonly (() => Promise<Up>)[]): Promise<Up> {
  if (first === undefined) throw new Error('there is no process to start');
  const told = await first();
  await Promise.all(others.map((start) => start()));
  return told;
}
