// Both ends of a contestant: what a system must offer to be compared, and the handle on the process it runs in.
// Invariant: every contestant is driven by the same code (contestants/stage.ts) and counted by the same rules.
// Next room: contestants/stage.ts; drained.ts, which runs the clock over several of them.
import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';

/** A job system under test. */
export interface Contestant {
  /** Brings its schema up to date. */
  prepare(url: string): Promise<void>;
  /** Enqueues `count` no-op jobs with the payload, as fast as its documentation suggests; returns the seconds of the calls. */
  fill(url: string, count: number, payload: object): Promise<number>;
  /** Opens what enqueues one job at a time, as a request handler would. */
  produce(url: string, payload: object): Promise<Producer>;
  /** Starts one worker that calls `onRun` with the id of each job it runs. */
  work(url: string, concurrency: number, onRun: (id: string) => void): Promise<{ stop(): Promise<void> }>;
  look(url: string): Promise<Look>;
}

/** A look at what the store holds. */
export interface Look {
  /** Nothing waits and nothing runs. */
  isEmpty(): Promise<boolean>;
  /** How many of those ever enqueued are done. */
  finished(enqueued: number): Promise<number>;
  close(): Promise<void>;
}

export interface Producer {
  /** Answers after the commit with the id that `onRun` will name. */
  enqueue(): Promise<string>;
  close(): Promise<void>;
}

/** A moment of one job, on the clock that all processes of the machine share, in ms. */
export type Moment = readonly [id: string, at: number];

/** Jobs that were enqueued at a fixed rate, warm-up included. */
export interface Trickled {
  /** When each was enqueued, measured ones only. */
  sent: Moment[];
  /** How long each of them took to enqueue, in ms. */
  took: number[];
  /** Ids of all, those of the warm-up too. */
  ids: string[];
  node_us: number;
}

/** Where the workers of one process are. */
export interface Progress {
  delivered: number;
  /** When the first handler was called, and what the server had used by then; null before. */
  first: { at: number; server_us: number } | null;
  /** CPU of this process since its first handler call. */
  node_us: number;
}

/** An open loop: what is slow does not slow down those who ask. */
export interface Trickle {
  per_second: number;
  warm_up_seconds: number;
  seconds: number;
}

export interface Asks {
  prepare: { ask: object; answer: null };
  fill: { ask: { count: number }; answer: { seconds: number } };
  /** Starts workers; `server` is the process id whose CPU is counted. */
  begin: { ask: { workers: number; concurrency: number; server?: number }; answer: null };
  progress: { ask: object; answer: Progress };
  empty: { ask: object; answer: { isEmpty: boolean } };
  /** Waits until the store is empty. */
  settled: { ask: object; answer: { at: number; server_us: number } };
  /** Awaits `count` deliveries, lingers so that doubles show, and stops. */
  collect: { ask: { count?: number }; answer: { ids: string[]; starts: Moment[]; node_us: number } };
  finished: { ask: { enqueued: number }; answer: { finished: number } };
  trickle: { ask: Trickle; answer: Trickled };
  /** One job after the other: the next is sent when the last is done. */
  serial: { ask: { count: number }; answer: { ids: string[] } };
}

/** A contestant's process. */
export interface Stage {
  ask<Name extends keyof Asks>(name: Name, ask: Asks[Name]['ask']): Promise<Asks[Name]['answer']>;
  leave(): Promise<void>;
}

const stageFile = fileURLToPath(new URL('./contestants/stage.ts', import.meta.url));
const longest_ask_ms = 180_000;

/** Starts a contestant by the name of its module, in a process of its own; `words` are for the module. */
export function enter(contestant: string, url: string, ...words: string[]): Stage {
  const child = fork(stageFile, [contestant, url, ...words], {
    stdio: ['ignore', 'ignore', 'inherit', 'ipc'],
  });
  return {
    async ask(name, ask) {
      const answer = await answerOf(child, { name, ...ask });
      if (answer.error !== undefined) throw new Error(`${contestant}, ${name}: ${answer.error}`);
      return answer.value as never;
    },
    async leave() {
      if (child.exitCode !== null || child.signalCode !== null) return;
      const gone = new Promise((resolve) => child.once('exit', resolve));
      child.disconnect();
      await gone;
    },
  };
}

export interface Answer {
  value?: unknown;
  error?: string;
}

function answerOf(child: ChildProcess, message: object): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const settle = (done: () => void) => {
      clearTimeout(timer);
      child.off('message', heard).off('exit', left);
      done();
    };
    const heard = (answer: unknown) => settle(() => resolve(answer as Answer));
    const left = (code: number | null) => settle(() => reject(new Error(`a contestant ended with ${code}`)));
    const timer = setTimeout(() => {
      child.kill('SIGKILL');
      settle(() => reject(new Error(`a contestant gave no answer in ${longest_ask_ms} ms`)));
    }, longest_ask_ms);
    child.once('message', heard).once('exit', left);
    child.send(message);
  });
}
