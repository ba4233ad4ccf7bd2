// Why this room exists: a service in trouble must keep the leases of those who work, so a drill holds some all the while: a
// pull worker that takes jobs, renews them by the second and completes them at the end.
// Invariant: a renewal that is refused with 503 is repeated as a worker would; one that is refused otherwise is a loss.
// Next room: the drills overload and frozen.

export interface Held {
  leases: number;
  renewals: number;
  /** Calls that were told to come again. */
  repeated: number;
  /** Leases that were lost, and completions that were not accepted. */
  lost: number;
  /** Longest time from one renewal of a lease to the next, in ms. */
  longest_gap_ms: number;
}

export interface HoldOptions {
  url: string;
  count: number;
  every_ms: number;
}

/** Leases `count` jobs and keeps them until `end`, which completes them. */
export async function keepLeases({ url, count, every_ms }: HoldOptions) {
  const post = async (path: string, body: object) => {
    const answer = await fetch(url + path, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(20_000),
    });
    return { status: answer.status, body: (await answer.json()) as { leases?: { id: string }[] } };
  };
  const held: Held = { leases: count, renewals: 0, repeated: 0, lost: 0, longest_gap_ms: 0 };
  for (let n = 0; n < count; n++) await post('/v1/jobs', { type: 'held', payload: n, timeout_seconds: 600 });
  const ids: string[] = [];
  while (ids.length < count) {
    const { body } = await post('/v1/leases', { worker: 'holder', types: ['held'], limit: count });
    ids.push(...(body.leases ?? []).map(({ id }) => id));
  }
  let holding = true;

  /** Calls until it is answered by anything but "come again". */
  async function insisting(path: string, body: object): Promise<boolean> {
    for (;;) {
      const status = await post(path, body).then(
        (answer) => answer.status,
        () => 503,
      );
      if (status === 200) return true;
      if (status !== 503) return false;
      held.repeated++;
      await new Promise((resolve) => setTimeout(resolve, 500));
    }
  }

  const holders = ids.map(async (id) => {
    let renewed = performance.now();
    while (holding) {
      await new Promise((resolve) => setTimeout(resolve, every_ms));
      if (!(await insisting(`/v1/leases/${id}/heartbeat`, {}))) {
        held.lost++;
        return;
      }
      held.renewals++;
      const now = performance.now();
      held.longest_gap_ms = Math.max(held.longest_gap_ms, Math.round(now - renewed));
      renewed = now;
    }
    if (!(await insisting(`/v1/leases/${id}/complete`, { result: 1 }))) held.lost++;
  });

  return {
    async end(): Promise<Held> {
      holding = false;
      await Promise.all(holders);
      return held;
    },
  };
}
