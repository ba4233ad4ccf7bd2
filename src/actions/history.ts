// Reads what has happened to jobs: a crowd that watches the same jobs asks for the same thing at the same time, and it is
// read once.
// Invariant: what is told of a job is one consistent look at it.
// Next room: store/history.ts; domain/timeline.ts makes events of it.
import { type History, most_attempts, type StartFacts } from '../domain/timeline.ts';
import type { Pool } from '../store/db.ts';
import { Flush } from '../store/flush.ts';
import { findAttempts, type PastStart, type PastStarts, readHistories } from '../store/history.ts';
import type { Workers } from '../store/lanes.ts';

export interface Histories {
  /** What has happened to a job from the start `since` on, a page of it; undefined when there is no such job. */
  read(id: string, since: number): Promise<History | undefined>;
  /** The latest starts of a job that are over, newest first. */
  attempts(id: string): Promise<StartFacts[]>;
}

export function recalling(db: Pool, workers: Workers): Histories {
  const reads = new Flush<{ id: string; since: number }, PastStarts | undefined>({
    run: async (asks) => {
      const keys = asks.map(({ id, since }) => `${id} ${since}`);
      const once = new Map(asks.map((ask, i) => [keys[i], ask]));
      const found = await readHistories(db, [...once.values()]);
      const byKey = new Map([...once.keys()].map((key, i) => [key, found[i]]));
      return keys.map((key) => byKey.get(key));
    },
    inFlight: 2,
    max: 200,
    gapMs: 0,
    maxWaiting: 20_000,
  });
  const named = async (start: PastStart): Promise<StartFacts> => ({
    ...start,
    worker: await workers.nameOf(start.worker),
  });
  return {
    async read(id, since) {
      const found = await reads.add({ id, since });
      return found && { ...found, starts: await Promise.all(found.starts.map(named)) };
    },
    attempts: async (id) => Promise.all((await db.many(findAttempts, [id, most_attempts])).map(named)),
  };
}
