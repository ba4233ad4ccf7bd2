// Redis, which only makes things faster: hints that jobs have ended, so that a caller who waits at another replica is
// released at once. Losing all of it costs latency, never a job.
// Invariants: no call waits for Redis; nothing is queued while it is away; a hint is never needed for correctness.
// Next room: actions/wait.ts, which falls back to looking.
import { Redis as Client } from 'ioredis';

const channel = 'errand:ended';

export interface HintOptions {
  url: string;
  onHint: (ids: string[]) => void;
  onSent: (ids: number) => void;
  onState: (up: boolean, error?: unknown) => void;
}

/** Carries ids of ended jobs between replicas. */
export class Hints {
  #options: HintOptions;
  #publisher: Client;
  #subscriber: Client;
  #origin = Math.random().toString(36).slice(2, 10);
  #subscribed = false;
  #pending: string[] = [];
  #sending = false;

  constructor(options: HintOptions) {
    this.#options = options;
    this.#publisher = connect(options.url);
    this.#subscriber = connect(options.url);
  }

  /** Whether hints from elsewhere arrive at present. */
  get up(): boolean {
    return this.#subscribed && this.#publisher.status === 'ready';
  }

  start(): void {
    this.#publisher.on('error', (error) => this.#options.onState(false, error));
    this.#subscriber.on('error', () => {});
    this.#subscriber.on('ready', () => {
      this.#subscriber.subscribe(channel).then(
        () => {
          this.#subscribed = true;
          this.#options.onState(true);
        },
        (error) => this.#options.onState(false, error),
      );
    });
    this.#subscriber.on('close', () => {
      this.#subscribed = false;
    });
    this.#subscriber.on('message', (_, text) => {
      const [origin, ...ids] = text.split(' ');
      if (origin !== this.#origin) this.#options.onHint(ids);
    });
    // A failed first attempt is not an end: the clients go on trying by themselves.
    void this.#publisher.connect().catch(() => {});
    void this.#subscriber.connect().catch(() => {});
  }

  /** Tells the others that jobs have ended; what gathers while a message is on its way goes with the next. */
  ended(ids: readonly string[]): void {
    if (ids.length === 0 || this.#publisher.status !== 'ready') return;
    if (this.#pending.length < 10_000) this.#pending.push(...ids);
    if (!this.#sending) void this.#send();
  }

  /** Answers the time a round trip took, in ms; throws when Redis does not answer or refuses writes. */
  async probe(): Promise<number> {
    const began = performance.now();
    if (this.#publisher.status !== 'ready')
      throw new Error(`redis is not connected (${this.#publisher.status})`);
    // A write, because a full or read-only server still answers PING.
    await this.#publisher.set('errand:probe', '1', 'EX', 60);
    return performance.now() - began;
  }

  async stop(): Promise<void> {
    this.#publisher.disconnect();
    this.#subscriber.disconnect();
  }

  async #send(): Promise<void> {
    this.#sending = true;
    try {
      while (this.#pending.length > 0) {
        const ids = this.#pending.splice(0, 1_000);
        await this.#publisher.publish(channel, [this.#origin, ...ids].join(' '));
        this.#options.onSent(ids.length);
      }
    } catch {
      this.#pending = [];
    } finally {
      this.#sending = false;
    }
  }
}

function connect(url: string): Client {
  return new Client(url, {
    lazyConnect: true,
    commandTimeout: 200,
    connectTimeout: 1_000,
    maxRetriesPerRequest: 1,
    enableOfflineQueue: false,
    autoResendUnfulfilledCommands: false,
    autoResubscribe: false,
    keepAlive: 10_000,
    retryStrategy: (attempt) => Math.min(2_000, 100 * attempt) * (0.5 + Math.random() / 2),
    reconnectOnError: (error) => error.message.startsWith('READONLY'),
  });
}
