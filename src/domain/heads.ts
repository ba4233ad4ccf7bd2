// Which heads (lane, prio) may hold ready jobs, and from where their blocks need reading. Under an old snapshot consumed
// blocks stay in the index as dead entries; the lagged cursor lets a claim step over them, so its cost does not grow.
// Invariants: correctness never depends on a cursor, only delay does: every head is read from the start again now and then;
// a head of a lane that is paused is chosen by nobody and keeps what is known of it.
// Next room: actions/claim.ts.
import { isHeldAlone } from './suspicion.ts';

/** A head to ask, with the block address to start behind. */
export interface Head {
  lane: number;
  prio: number;
  cursor: string;
  /** Hints received when it was chosen: a later one means an empty answer is already out of date. */
  hints: number;
}

interface Known {
  lane: number;
  prio: number;
  cursor: bigint;
  /** First live blocks seen and not yet old enough to be trusted, oldest first. */
  seen: { at: number; behind: bigint; xmax: bigint }[];
  rewound_at: number;
  live: boolean;
  hints: number;
}

const trust_ms = 50;
const trust_without_proof_ms = 1_000;
const rewind_ms = 10_000;

/** Heads as this process knows them; `now` is monotonic, in ms. */
export class Heads {
  #heads = new Map<string, Known>();
  #mayClaim: (lane: number) => boolean;

  /** `mayClaim`: whether jobs of a lane may be handed out at this moment; heads of others are as if they were asleep. */
  constructor(mayClaim: (lane: number) => boolean = () => true) {
    this.#mayClaim = mayClaim;
  }

  /** A hint or a listing says this head holds something; `block` rewinds the cursor to before it. */
  ready(lane: number, prio: number, block?: bigint): void {
    const head = this.#head(lane, prio);
    head.live = true;
    head.hints++;
    if (block !== undefined && block <= head.cursor) {
      head.cursor = block - 1n;
      head.seen = [];
    }
  }

  /** Up to `most` live heads among `lanes`, in an order that starts elsewhere each time; suspects or healthy ones. */
  choose(lanes: ReadonlySet<number>, suspects: boolean, now: number, most = 256): Head[] {
    const chosen: Head[] = [];
    for (const head of this.#heads.values()) {
      if (!head.live || isHeldAlone(head.prio) !== suspects || !lanes.has(head.lane)) continue;
      if (!this.#mayClaim(head.lane)) continue;
      if (now - head.rewound_at > rewind_ms) {
        head.rewound_at = now;
        head.cursor = 0n;
        head.seen = [];
      }
      chosen.push({ lane: head.lane, prio: head.prio, cursor: head.cursor.toString(), hints: head.hints });
      if (chosen.length === most) break;
    }
    return chosen;
  }

  /** Every head this process has met, asleep or not, with the block address behind which it need be read. */
  known(): { lane: number; prio: number; cursor: string }[] {
    return [...this.#heads.values()].map(({ lane, prio, cursor }) => ({ lane, prio, cursor: `${cursor}` }));
  }

  /** What a claim saw: heads it found something in move their cursor, the others are asleep until a hint. */
  observe(
    asked: readonly Head[],
    found: readonly { head: number; first_live: string; xmin: string; xmax: string }[],
    now: number,
  ): void {
    const awake = new Map(found.map((seen) => [seen.head, seen]));
    asked.forEach((ask, i) => {
      const head = this.#head(ask.lane, ask.prio);
      const seen = awake.get(i + 1);
      if (seen === undefined) {
        if (head.hints === ask.hints) head.live = false;
        return;
      }
      head.seen.push({ at: now, behind: BigInt(seen.first_live) - 1n, xmax: BigInt(seen.xmax) });
      this.#advance(head, BigInt(seen.xmin), now);
      // To the end of the walk, so that a cut at `most` heads reaches the others next time.
      this.#heads.delete(key(head.lane, head.prio));
      this.#heads.set(key(head.lane, head.prio), head);
    });
  }

  /** Whether any of these lanes may hold healthy jobs. */
  anyReady(lanes: ReadonlySet<number>): boolean {
    return this.#any(lanes, false);
  }

  /** Whether any of these lanes may hold suspects. */
  anySuspect(lanes: ReadonlySet<number>): boolean {
    return this.#any(lanes, true);
  }

  #any(lanes: ReadonlySet<number>, suspects: boolean): boolean {
    for (const head of this.#heads.values()) {
      if (!head.live || isHeldAlone(head.prio) !== suspects || !lanes.has(head.lane)) continue;
      if (this.#mayClaim(head.lane)) return true;
    }
    return false;
  }

  /** A sighting counts when it is old enough that every block below it has committed: proven by the snapshots, or by age. */
  #advance(head: Known, xmin: bigint, now: number): void {
    while (head.seen.length > 0) {
      const oldest = head.seen[0] as Known['seen'][number];
      const age = now - oldest.at;
      const proven = age >= trust_ms && xmin >= oldest.xmax;
      if (!proven && age < trust_without_proof_ms) break;
      if (oldest.behind > head.cursor) head.cursor = oldest.behind;
      head.seen.shift();
    }
    // Sightings closer than a few ms apart say the same: keep the list short under load.
    if (head.seen.length > 64) head.seen.splice(1, head.seen.length - 33);
  }

  #head(lane: number, prio: number): Known {
    const name = key(lane, prio);
    let head = this.#heads.get(name);
    if (head === undefined) {
      head = {
        lane,
        prio,
        cursor: 0n,
        seen: [],
        rewound_at: Number.NEGATIVE_INFINITY,
        live: false,
        hints: 0,
      };
      this.#heads.set(name, head);
    }
    return head;
  }
}

function key(lane: number, prio: number): string {
  return `${lane}.${prio}`;
}
