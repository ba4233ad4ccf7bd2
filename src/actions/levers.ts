// What operators have set, in the memory of every process: settings of queues, pauses and drains. Whoever submits or claims
// asks here and no database. A change is told by NOTIFY; looking once a second is the floor under that.
// Invariants: news is never older than `stale_ms` where a job is handed out, because a process that could not look for so
// long hands out nothing; the database's clock ends pauses.
// Next room: store/levers.ts; domain/heads.ts, which asks before a head is claimed from; queues.ts, which pulls levers.
import type { DrainInForce, PauseInForce } from '../domain/acceptance.ts';
import { typeOf } from '../domain/options.ts';
import { type QueueSettings, settingsFrom, unsetQueue } from '../domain/queue-settings.ts';
import { tenant } from '../domain/tenant.ts';
import type { Pool } from '../store/db.ts';
import type { Lane } from '../store/lanes.ts';
import { allQueues, allTypePauses, type PausedType, readTurn, type SetQueue } from '../store/levers.ts';

export interface LeverOptions {
  db: Pick<Pool, 'one' | 'many'>;
  /** The lane of an id, where this process has met it. */
  laneOf: (id: number) => Lane | undefined;
  /** Something may be claimed that could not be claimed before. */
  onRelease: () => void;
}

interface Known {
  settings: QueueSettings;
  isDeleted: boolean;
  pause: PauseInForce | null;
  types: Map<string, PauseInForce>;
  drain: DrainInForce | null;
}

/** Longer than any look takes that succeeds, and several looks long. */
const stale_ms = 3_000;

export class Levers {
  #options: LeverOptions;
  #queues = new Map<string, Known>();
  #pauses = 0;
  #turn = '';
  #now = new Date(0);
  /** When the last look that succeeded was begun. */
  #asOf = Number.NEGATIVE_INFINITY;
  #looking: Promise<void> | undefined;
  #following: Promise<void> | undefined;

  constructor(options: LeverOptions) {
    this.#options = options;
  }

  /** Whether nothing at all is set of a queue: most are so. */
  isUntouched(queue: string): boolean {
    return !this.#queues.has(queue);
  }

  /** What is set of a queue; of one that nobody has set anything of, always the same object. */
  settingsOf(queue: string): QueueSettings {
    return this.#queues.get(queue)?.settings ?? unsetQueue;
  }

  /** The pause that keeps jobs of a type from starting, if there is one. */
  pauseOf(queue: string, type: string): PauseInForce | null {
    const known = this.#queues.get(queue);
    if (known === undefined) return null;
    return this.#inForce(known.pause) ?? this.#inForce(known.types.get(type) ?? null);
  }

  /** Every pause that keeps jobs of a type from starting. */
  pausesOf(queue: string, type: string): PauseInForce[] {
    const known = this.#queues.get(queue);
    const all = [known?.pause ?? null, known?.types.get(type) ?? null];
    return all.map((pause) => this.#inForce(pause)).filter((pause) => pause !== null);
  }

  /** The drain that refuses what is submitted, if there is one. */
  drainOf(queue: string): DrainInForce | null {
    return this.#queues.get(queue)?.drain ?? null;
  }

  /** Every pause and drain that is in force; `type` null: of the whole queue. */
  *inForce(): Iterable<{ lever: 'pause' | 'drain'; queue: string; type: string | null }> {
    for (const [queue, { pause, types, drain }] of this.#queues) {
      if (this.#inForce(pause) !== null) yield { lever: 'pause', queue, type: null };
      if (drain !== null) yield { lever: 'drain', queue, type: null };
      for (const [type, one] of types) {
        if (this.#inForce(one) !== null) yield { lever: 'pause', queue, type };
      }
    }
  }

  /** Whether a queue was made by an operator, or deleted by one; undefined: neither. */
  isDefined(queue: string): boolean | undefined {
    const known = this.#queues.get(queue);
    return known === undefined ? undefined : !known.isDeleted;
  }

  /** Whether jobs of a lane may be handed out at this moment. */
  mayClaim(lane: number): boolean {
    if (this.#isStale()) return false;
    if (this.#pauses === 0) return true;
    const named = this.#options.laneOf(lane);
    return named !== undefined && this.pauseOf(named.queue, typeOf(named.route)) === null;
  }

  /** How soon a pause ends by itself, in ms; undefined: none does. */
  get next_ms(): number | undefined {
    const ends = [...this.#allPauses()].flatMap(({ until }) => (until === null ? [] : [until.getTime()]));
    const next = Math.min(...ends.filter((end) => end > this.#now.getTime()));
    return Number.isFinite(next) ? next - this.#now.getTime() : undefined;
  }

  /** Reads what has changed; what was changed before the call is known after it. */
  look(): Promise<void> {
    if (this.#looking === undefined) {
      this.#looking = this.#look().finally(() => {
        this.#looking = undefined;
      });
      return this.#looking;
    }
    this.#following ??= this.#looking
      .catch(() => {})
      .then(() => {
        this.#following = undefined;
        return this.look();
      });
    return this.#following;
  }

  async #look(): Promise<void> {
    const { db, onRelease } = this.#options;
    const began = performance.now();
    const { turn, now } = await db.one(readTurn);
    // Rows are read after the turn, so they may be newer than it, never older.
    const changed = turn === this.#turn ? null : await readAll(db);
    const ended = [...this.#allPauses()].some(
      ({ until }) => until !== null && until > this.#now && until <= now,
    );
    const mayRelease = changed !== null || ended || this.#isStale();
    const isFirst = this.#turn === '';
    if (changed !== null) this.#remember(changed.queues, changed.types);
    this.#turn = turn;
    this.#now = now;
    this.#asOf = began;
    if (mayRelease && !isFirst) onRelease();
  }

  #remember(queues: readonly SetQueue[], types: readonly PausedType[]): void {
    const known = new Map(queues.map((row) => [row.name, knownOf(row)]));
    for (const { queue, type, paused_at: since, paused_until: until, reason } of types) {
      const one = known.get(queue) ?? knownOf({ ...unset, name: queue });
      one.types.set(type, { of: 'type', since, until, reason });
      known.set(queue, one);
    }
    this.#queues = known;
    this.#pauses = [...this.#allPauses()].length;
  }

  *#allPauses(): Iterable<PauseInForce> {
    for (const { pause, types } of this.#queues.values()) {
      if (pause !== null) yield pause;
      yield* types.values();
    }
  }

  #inForce(pause: PauseInForce | null): PauseInForce | null {
    return pause === null || (pause.until !== null && pause.until <= this.#now) ? null : pause;
  }

  #isStale(): boolean {
    return performance.now() - this.#asOf > stale_ms;
  }
}

async function readAll(db: LeverOptions['db']) {
  return { queues: await db.many(allQueues, [tenant]), types: await db.many(allTypePauses, [tenant]) };
}

const unset: SetQueue = {
  name: '',
  settings: {},
  paused_at: null,
  paused_until: null,
  pause_reason: null,
  draining_since: null,
  drain_deadline: null,
  drain_reason: null,
  is_deleted: false,
};

function knownOf(row: SetQueue): Known {
  const { paused_at, draining_since } = row;
  return {
    settings: row.is_deleted ? unsetQueue : settingsFrom(row.settings),
    isDeleted: row.is_deleted,
    pause:
      paused_at === null
        ? null
        : { of: 'queue', since: paused_at, until: row.paused_until, reason: row.pause_reason },
    types: new Map(),
    drain:
      draining_since === null
        ? null
        : { since: draining_since, deadline: row.drain_deadline, reason: row.drain_reason },
  };
}
