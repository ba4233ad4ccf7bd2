// Tells whoever watches a job that something about it has changed: one look for all watched jobs of the process, at the
// latest four times a second, and at once for a job of which something was heard.
// Invariants: a change after `watch` is always told, hints or no hints; every wait ends; who reads what has changed reads it
// in a statement of its own, after it was told; the number of streams is bounded.
// Next room: store/history.ts `findVersions`; http/events.ts and http/status.ts, which watch.
import { Problem } from '../domain/problem.ts';

/** Why a wait for news is over. */
export type NewsEnd = 'news' | 'time' | 'drained' | 'gone';

/** One who watches a job. */
export interface Watched {
  /** Waits until something has changed since the last call told of news, at most `ms`. */
  news(ms: number, gone?: AbortSignal): Promise<NewsEnd>;
  close(): void;
}

export interface WatchOptions {
  /** Says of each of these jobs what differs whenever anything told of it differs. */
  look: (ids: string[]) => Promise<readonly { id: string; version: string }[]>;
  /** Streams this process may serve. */
  mostStreams: number;
  onError: (error: unknown) => void;
}

interface Job {
  version: string | undefined;
  watchers: Set<Watcher>;
}

const look_ms = 250;
const gather_ms = 20;
const after_error_ms = 1_000;
/** Ids of one statement. */
const chunk = 500;

export class Watch {
  #options: WatchOptions;
  #jobs = new Map<string, Job>();
  #heard = new Set<string>();
  #timer: NodeJS.Timeout | undefined;
  #timerAt = Number.POSITIVE_INFINITY;
  #looking = false;
  #fullLookAt = 0;
  #draining = false;
  #farewells = new Set<() => void>();

  constructor(options: WatchOptions) {
    this.#options = options;
  }

  /** Streams that are open. */
  get streams(): number {
    return this.#farewells.size;
  }

  /** Jobs that somebody watches. */
  get jobs(): number {
    return this.#jobs.size;
  }

  watch(id: string): Watched {
    const job = this.#jobs.get(id) ?? { version: undefined, watchers: new Set() };
    this.#jobs.set(id, job);
    const watcher = new Watcher(() => {
      if (job.watchers.delete(watcher) && job.watchers.size === 0) this.#jobs.delete(id);
    });
    job.watchers.add(watcher);
    if (this.#draining) watcher.drain();
    else this.#lookIn(look_ms);
    return watcher;
  }

  /**
   * Watches for a caller who stays, until `close`; `onDrain` is called when the server stops. Throws 429 when there are too
   * many of them, 503 when the server stops already.
   */
  stream(id: string, onDrain: () => void): Watched {
    if (this.#draining) {
      throw new Problem('draining', { detail: 'this server is stopping; repeat the call' });
    }
    if (this.streams >= this.#options.mostStreams) {
      throw new Problem('stream-limit', {
        detail: `${this.streams} streams are open here already; try again, or poll the status of job ${id}`,
      });
    }
    const watched = this.watch(id);
    const farewell = () => onDrain();
    this.#farewells.add(farewell);
    return {
      news: (ms, gone) => watched.news(ms, gone),
      close: () => {
        this.#farewells.delete(farewell);
        watched.close();
      },
    };
  }

  /** Something may have happened to these jobs: looks within `ms`, and at all of which something is heard meanwhile. */
  hear(ids: Iterable<string>, ms = gather_ms): void {
    if (this.#jobs.size === 0) return;
    let isWatched = false;
    for (const id of ids) {
      if (!this.#jobs.has(id)) continue;
      this.#heard.add(id);
      isWatched = true;
    }
    if (isWatched) this.#lookIn(ms);
  }

  /** Ends every wait; later ones end at once. */
  drain(): void {
    this.#draining = true;
    clearTimeout(this.#timer);
    for (const { watchers } of this.#jobs.values()) for (const watcher of watchers) watcher.drain();
    for (const farewell of this.#farewells) farewell();
  }

  #lookIn(ms: number): void {
    const at = performance.now() + ms;
    if (this.#looking || this.#draining || at >= this.#timerAt) return;
    clearTimeout(this.#timer);
    this.#timerAt = at;
    this.#timer = setTimeout(() => void this.#look(), Math.max(0, ms));
  }

  async #look(): Promise<void> {
    this.#looking = true;
    this.#timerAt = Number.POSITIVE_INFINITY;
    const began = performance.now();
    const isFull = began >= this.#fullLookAt;
    const ids = isFull ? [...this.#jobs.keys()] : [...this.#heard];
    this.#heard.clear();
    let pause = 0;
    try {
      for (let from = 0; from < ids.length; from += chunk) {
        for (const { id, version } of await this.#options.look(ids.slice(from, from + chunk))) {
          this.#tell(id, version);
        }
      }
    } catch (error) {
      this.#options.onError(error);
      // What was heard is found again by looking at all.
      pause = after_error_ms;
    }
    const ended = performance.now();
    // Looking never takes more than a fifth of the time, however many jobs are watched.
    if (isFull || pause > 0) this.#fullLookAt = ended + Math.max(pause, look_ms, 4 * (ended - began));
    this.#looking = false;
    if (this.#jobs.size === 0) return;
    if (this.#heard.size > 0 && pause === 0) this.#lookIn(gather_ms);
    // Timers fire up to a millisecond early, so the full look may be due by the end of this one.
    else this.#lookIn(Math.max(0, this.#fullLookAt - ended));
  }

  #tell(id: string, version: string): void {
    const job = this.#jobs.get(id);
    if (job === undefined || job.version === version) return;
    // The first look cannot know what those who watch have seen, so it counts as news.
    job.version = version;
    for (const watcher of job.watchers) watcher.tell();
  }
}

class Watcher implements Watched {
  #onClose: () => void;
  #news = false;
  #drained = false;
  #finish: ((end: NewsEnd) => void) | undefined;

  constructor(onClose: () => void) {
    this.#onClose = onClose;
  }

  news(ms: number, gone?: AbortSignal): Promise<NewsEnd> {
    if (gone?.aborted) return Promise.resolve('gone');
    if (this.#drained) return Promise.resolve('drained');
    if (this.#news) return Promise.resolve(this.#taken());
    return new Promise((resolve) => {
      const onAbort = () => this.#finish?.('gone');
      const timer = setTimeout(() => this.#finish?.('time'), Math.max(0, ms));
      gone?.addEventListener('abort', onAbort, { once: true });
      this.#finish = (end) => {
        this.#finish = undefined;
        clearTimeout(timer);
        gone?.removeEventListener('abort', onAbort);
        resolve(end);
      };
    });
  }

  tell(): void {
    this.#news = true;
    this.#finish?.(this.#taken());
  }

  drain(): void {
    this.#drained = true;
    this.#finish?.('drained');
  }

  close(): void {
    this.#finish?.('gone');
    this.#onClose();
  }

  #taken(): NewsEnd {
    this.#news = false;
    return 'news';
  }
}
