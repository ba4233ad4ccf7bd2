// The one connection that listens: hints that a head became ready, that a lever was pulled, an operation begun or the clock
// moved. It heals itself; a hint that is lost while it is down costs at most one poll, because the poll is the truth.
// Next room: domain/heads.ts, which takes the hints.
import pg from 'pg';
import type { Db } from './db.ts';
import { sql } from './sql.ts';

/** How long the server may take to say good-bye, in ms. */
const farewell_ms = 1_000;

/** Tells other processes which heads became ready; the payload is `lane.prio[.first block]` joined by spaces. */
export async function notifyReady(db: Db, payload: string): Promise<void> {
  await db.many(notify, [payload]);
}

export const notify = sql<unknown>`select pg_notify('errand_ready', $1)`;

/** The channels to listen on, and who is told what comes by each. */
export type Heard = Readonly<Record<string, (payload: string) => void>>;

/** Listens until stopped; reconnects with growing, jittered pauses, at most one attempt a second. */
export class Listener {
  #url: string;
  #heard: Heard;
  #onState: (up: boolean, error?: unknown) => void;
  #client: pg.Client | undefined;
  #timer: NodeJS.Timeout | undefined;
  #probe: NodeJS.Timeout | undefined;
  #stopped = false;

  constructor(url: string, heard: Heard, onState: (up: boolean, error?: unknown) => void) {
    this.#url = url;
    this.#heard = heard;
    this.#onState = onState;
  }

  start(): void {
    void this.#connect();
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    clearTimeout(this.#timer);
    clearInterval(this.#probe);
    const client = this.#client;
    if (client === undefined) return;
    // The server says good-bye first, and a server that hangs never does.
    const timer = setTimeout(() => client.connection.stream.destroy(), farewell_ms);
    await client.end().catch(() => {});
    clearTimeout(timer);
  }

  async #connect(): Promise<void> {
    const client = new pg.Client({
      connectionString: this.#url,
      application_name: 'errand listen',
      connectionTimeoutMillis: 2_000,
      query_timeout: 5_000,
      keepAlive: true,
      keepAliveInitialDelayMillis: 10_000,
    });
    let failed = false;
    const fail = (error: unknown) => {
      if (failed) return;
      failed = true;
      clearInterval(this.#probe);
      client.removeAllListeners('notification');
      void client.end().catch(() => {});
      if (this.#stopped) return;
      this.#onState(false, error);
      this.#timer = setTimeout(() => void this.#connect(), 1_000 + Math.random() * 2_000);
    };
    client.on('error', fail);
    client.on('end', () => fail(new Error('connection ended')));
    client.on('notification', (message) => this.#heard[message.channel]?.(message.payload ?? ''));
    this.#client = client;
    try {
      await client.connect();
      await client.query(
        Object.keys(this.#heard)
          .map((channel) => `listen ${channel}`)
          .join('; '),
      );
      if (this.#stopped) return await client.end();
      this.#onState(true);
      // A half-open socket shows no error of its own: ask now and then.
      this.#probe = setInterval(() => client.query('select 1').catch(fail), 10_000);
    } catch (error) {
      fail(error);
    }
  }
}
