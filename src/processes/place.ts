// The place of a process among those that share its port: what it and the primary say to each other.
// Invariants: a process whose primary is gone ends (node:cluster sees to that); metrics are told of all processes or not
// at all, so that no counter jumps because another process happened to answer.
// Next room: primary.ts, the other end.

/** What the primary says. */
export type ToProcess =
  | { kind: 'ping' }
  /** Tell your metrics. */
  | { kind: 'collect'; turn: number }
  /** The metrics of all, as you asked. */
  | { kind: 'collected'; turn: number; text: string };

/** What a process says. */
export type ToPrimary =
  | { kind: 'pong' }
  | ({ kind: 'up' } & Up)
  | { kind: 'metrics'; turn: number; text: string }
  /** Somebody asks for the metrics of all. */
  | { kind: 'collect'; turn: number };

/** What a process is, once it serves. */
export interface Up {
  url: string;
  types: readonly string[];
}

export interface Place {
  /** From 1; whoever follows a process that died has its number. */
  number: number;
  /** Says that the start has come to its end. */
  up(told: Up): void;
  /** Names the source of this process's own metrics. */
  metricsFrom(own: () => Promise<string>): void;
  metricsOfAll: () => Promise<string>;
}

/** Above what the primary waits for any process. */
const patience_ms = 9_000;

/** Takes the place with that number, in a process that a primary has forked. */
export function takePlace(number: number): Place {
  if (process.send === undefined)
    throw new Error('--process is what errand says to itself; set ERRAND_PROCESSES instead');
  // A channel that has just closed ends this process; what it was to carry does not matter any more.
  const say = (word: ToPrimary) => process.send?.(word, undefined, undefined, () => {});
  const asked = new Map<number, (text: string) => void>();
  let own = async () => '';
  let turns = 0;

  process.on('message', async (said: ToProcess) => {
    if (said.kind === 'ping') say({ kind: 'pong' });
    else if (said.kind === 'collected') asked.get(said.turn)?.(said.text);
    else say({ kind: 'metrics', turn: said.turn, text: await own() });
  });

  return {
    number,
    up: (told) => say({ kind: 'up', ...told }),
    metricsFrom(source) {
      own = source;
    },
    async metricsOfAll() {
      const turn = turns++;
      const { promise, resolve, reject } = Promise.withResolvers<string>();
      const late = () => reject(new Error(`the primary brought no metrics within ${patience_ms} ms`));
      const timer = setTimeout(late, patience_ms);
      asked.set(turn, resolve);
      say({ kind: 'collect', turn });
      try {
        return await promise;
      } finally {
        clearTimeout(timer);
        asked.delete(turn);
      }
    },
  };
}
