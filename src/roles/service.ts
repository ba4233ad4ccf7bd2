// The form of everything that lives long: started in order, stopped in reverse. Stop is idempotent and bounded.
// Next room: loop.ts, the only loop.

export interface Service {
  name: string;
  start(): Promise<void> | void;
  /** Stops taking work and ends what runs, at the latest at `deadline` (monotonic ms). */
  stop(deadline: number): Promise<void>;
}

/** Starts services in order; when one fails, those already started are stopped. */
export async function startAll(services: readonly Service[]): Promise<void> {
  const started: Service[] = [];
  try {
    for (const service of services) {
      await service.start();
      started.push(service);
    }
  } catch (error) {
    await stopAll(started, performance.now() + 5_000);
    throw error;
  }
}

/** Stops services in reverse; one that fails to stop does not keep the others from it. */
export async function stopAll(services: readonly Service[], deadline: number): Promise<unknown[]> {
  const failures: unknown[] = [];
  for (const service of [...services].reverse()) {
    await endBy(deadline, service.name, service.stop(deadline)).catch((error) => failures.push(error));
  }
  return failures;
}

/** Waits for something to end, at the longest until `deadline` (monotonic ms), and throws when it has not by then. */
export async function endBy(deadline: number, name: string, ending: Promise<unknown>): Promise<void> {
  const { promise: late, reject } = Promise.withResolvers<never>();
  const left = Math.max(least_ms, deadline - performance.now());
  const timer = setTimeout(() => reject(new Error(`${name} did not stop in time`)), left);
  try {
    await Promise.race([ending, late]);
  } finally {
    clearTimeout(timer);
  }
}

/** What even the last of many services gets to stop in, in ms. */
const least_ms = 250;
