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
    await service.stop(deadline).catch((error) => failures.push(error));
  }
  return failures;
}
