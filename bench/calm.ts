// Why this room exists: on a shared machine a round is worth as much as the machine was ours. Every round is weighed by
// the CPU that others used meanwhile, and a disturbed one is taken again.
// Invariants: a round is kept or dropped for what others did, never for its result; when calm ones cannot be had, the
// least disturbed are kept and the figure says so.
// Next room: accounts.ts, which knows who used what.
import { setTimeout as pause } from 'node:timers/promises';
import { cpuOfMachine, cpuOfTree } from './accounts.ts';

export interface Rounds<T> {
  kept: T[];
  /** CPU of others in the kept rounds, in cores. */
  others: number[];
  /** What to say of them; empty when all were calm. */
  remarks: string[];
}

export interface RoundsOptions<T> {
  rounds: number;
  /** How many to take in all to get calm ones; absent: three times as many. */
  most?: number | undefined;
  /** Process id of the database server. */
  server: number;
  take: (round: number) => Promise<T>;
  say: (line: string) => void;
}

const calm_cores = 0.15;
const tries_per_round = 3;
const look_ms = 1_500;
const patience_ms = 20_000;

/** Takes rounds until enough of them were calm. */
export async function calmRounds<T>(options: RoundsOptions<T>): Promise<Rounds<T>> {
  const { rounds, most = rounds * tries_per_round, server, take, say } = options;
  const taken: { value: T; others: number }[] = [];
  const calm = () => taken.filter(({ others }) => isCalm(others)).length;
  for (let attempt = 0; attempt < most && calm() < rounds; attempt++) {
    await untilCalm(server);
    const watch = watchOthers(server);
    // The order of contestants alternates with what was kept, so that the kept rounds are balanced.
    const value = await take(calm());
    const others = watch();
    taken.push({ value, others });
    if (!isCalm(others)) say(`  others used ${others.toFixed(2)} cores meanwhile: once more`);
  }
  // Stable: among equals the earlier stays first.
  const best = [...taken].sort((a, b) => weight(a.others) - weight(b.others)).slice(0, rounds);
  const disturbed = best.filter(({ others }) => !isCalm(others));
  const worst = Math.max(...disturbed.map(({ others }) => others));
  return {
    kept: best.map(({ value }) => value),
    others: best.map(({ others }) => others),
    remarks:
      disturbed.length === 0
        ? []
        : [
            `${disturbed.length} of ${rounds} rounds were disturbed: others used up to ${worst.toFixed(1)} cores`,
          ],
  };
}

function isCalm(others: number): boolean {
  // NaN: the system keeps no accounts, so nothing can be held against the round.
  return !(others > calm_cores);
}

function weight(others: number): number {
  return isCalm(others) ? 0 : others;
}

async function untilCalm(server: number): Promise<void> {
  const giveUp = performance.now() + patience_ms;
  for (;;) {
    const watch = watchOthers(server);
    await pause(look_ms);
    if (isCalm(watch()) || performance.now() > giveUp) return;
  }
}

/** Starts counting; the function it returns says how many cores others have used since. */
function watchOthers(server: number): () => number {
  const began = performance.now();
  const before = cpuOfMachine() - cpuOfTree([process.pid, server]);
  return () => {
    const used = cpuOfMachine() - cpuOfTree([process.pid, server]) - before;
    return Math.max(0, used / 1_000 / (performance.now() - began));
  };
}
