// Jobs go to a peer in chunks, a few calls in flight, as each of their documentations advises for many jobs at once.
// Next room: graphile.ts, pg-boss.ts, bullmq.ts.

export const jobs_per_call = 500;
const calls_in_flight = 4;

/** Calls `add` with the size of each chunk until `count` jobs are told; returns the seconds. */
export async function inChunks(count: number, add: (size: number) => Promise<unknown>): Promise<number> {
  const began = performance.now();
  let left = count;
  const caller = async () => {
    while (left > 0) {
      const size = Math.min(jobs_per_call, left);
      left -= size;
      await add(size);
    }
  };
  await Promise.all(Array.from({ length: calls_in_flight }, caller));
  return (performance.now() - began) / 1_000;
}
