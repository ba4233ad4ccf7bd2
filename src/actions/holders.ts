// Holders of keys, seen under the lock of their key: who they are, who goes on after one that has let go, and how a job makes
// room for another.
// Invariants: whoever waits goes before whoever asks now; a job that is superseded was taken out of where it waits in the
// same transaction, so it cannot run.
// Next room: unique.ts and keys.ts, which ask; store/unique.ts.
import type { JobState } from '../domain/job.ts';
import { tenant } from '../domain/tenant.ts';
import { goesOn } from '../domain/unique.ts';
import { insertCallbacks } from '../store/callbacks.ts';
import type { Db } from '../store/db.ts';
import { takeOut } from '../store/jobs.ts';
import { findHolders, type Held, type LetGo, letGo, setHolders } from '../store/unique.ts';
import { type KeptAll, type KeptPlace, noteBlocks } from './kept.ts';

const anyEpoch = 2_147_483_647;
const tries = 20;

/** Who holds the keys. Where a job waits for a holder that has let go, it goes first: it came before whoever asks. */
export async function heldNow(tx: Db, keys: string[], all: KeptAll): Promise<Map<string, Held>> {
  const holders = await tx.many(findHolders, [tenant, keys]);
  const gone = await letFirstGo(tx, holders);
  if (gone.length === 0) return new Map(holders.map((one) => [one.key, one]));
  for (const { lane, prio, block } of gone) if (block !== null) noteBlocks(all, [{ lane, prio }], block);
  all.gone.push(...gone);
  return new Map((await tx.many(findHolders, [tenant, keys])).map((one) => [one.key, one]));
}

/** Lets the next of those who wait for each of these keys go on, where one may; the keys are locked. */
export async function letFirstGo(tx: Db, holders: readonly Held[]): Promise<LetGo[]> {
  const free = holders.flatMap((one) => goesOn(one) ?? []);
  if (free.length === 0) return [];
  const gone = await tx.many(letGo, [free]);
  if (gone.length > 0)
    await tx.many(setHolders, [tenant, gone.map(({ key }) => key), gone.map(({ job_id }) => job_id)]);
  return gone;
}

/** What was left by a job that was taken out; `place` null: it did not stand in a line. */
export interface Left {
  place: (KeptPlace & { since: string }) | null;
}

/** Takes a job that waits out of its place and ends it; null: it has started or ended. */
export async function takeAway(tx: Db, id: string, why: string, all: KeptAll): Promise<Left | null> {
  let before: string | null | undefined;
  for (let n = 0; n < tries; n++) {
    const taken = await tx.one(takeOut, [id, 'cancelled', anyEpoch, why, true]);
    if (taken.taken > 0) {
      const { type, callback, ord, since } = taken;
      const lane = taken.lane as number;
      all.superseded.push({ id, lane, type, from: taken.state as JobState });
      if (callback) all.callbacks.push(...(await tx.many(insertCallbacks, [[id]])));
      const stood = ord !== null && since !== null;
      return { place: stood ? { lane, prio: taken.prio as number, ord, since } : null };
    }
    if (taken.blk === before) return null;
    before = taken.blk;
  }
  return null;
}
