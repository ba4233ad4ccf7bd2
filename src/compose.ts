// The start and the stop of the program: database, schema, handlers, then the parts in their order; and the drain.
// Next room: composition/build.ts, which makes the parts; processes/primary.ts, where several processes share the port.
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { Actions } from './actions/actions.ts';
import { build } from './composition/build.ts';
import type { Config } from './config.ts';
import { type EmbeddedPostgres, startEmbeddedPostgres } from './embedded/postgres.ts';
import { EventBus } from './events.ts';
import type { Place } from './processes/place.ts';
import { type Anteroom, anteroom } from './roles/anteroom.ts';
import { startAll } from './roles/service.ts';
import { type Handler, loadHandlers } from './roles/worker/handlers.ts';
import { alone, migrate as migrateSchema } from './store/migrate.ts';
import { checkServable, inWords, mayPass } from './store/servable.ts';
import { sessionSettings, settleRole, type Way } from './store/session.ts';
import { prepareClock } from './store/test-clock.ts';
import { logEvents } from './telemetry/log.ts';

export { openapiDocument as describe } from './http/openapi.ts';

/** The program under way. */
export interface Errand {
  url: string;
  actions: Actions;
  events: EventBus;
  /** Types that handlers of this process run. */
  types: readonly string[];
  /** Where the embedded Postgres keeps its data; null when DATABASE_URL names another. */
  embedded: { dataDir: string; port: number; version: string } | null;
  /** Stops without losing anything; `at_once` skips the time that balancers get to notice. */
  drain(at_once: boolean): Promise<void>;
}

export interface ComposeOptions {
  /** Bring the schema up to date instead of refusing an older one. */
  migrate: boolean;
  /** Handlers besides those of the configured folder. */
  handlers?: Iterable<Handler>;
  /** Where log lines go. */
  log?: (line: string) => void;
  /** Ends the wait for the database. */
  signal?: AbortSignal;
  /** Its place among the processes that share the port; absent: it is alone. */
  place?: Place;
}

/** How often the database is looked at while the start waits for it, in ms; about. */
const wait_ms = 1_000;

/** Builds and starts everything this process is to do; throws with the reason when it cannot. */
export async function compose(config: Config, options: ComposeOptions): Promise<Errand> {
  const events = new EventBus();
  const number = options.place?.number;
  const always = number === undefined ? {} : { process: number };
  const log = options.log ?? ((line) => process.stdout.write(line));
  logEvents(events, config.ERRAND_LOG_LEVEL, log, always);
  const { way, embedded } = await prepare(config, events, options);
  try {
    const handlers = await handlersOf(config, embedded !== null, options.handlers ?? []);
    const parts = await build(config, way, events, handlers, options.place);
    await startAll(parts.services).catch(async (error) => {
      await parts.close();
      throw error;
    });
    return {
      url: parts.url(),
      actions: parts.actions,
      events,
      types: [...handlers.keys()],
      embedded,
      async drain(atOnce) {
        await parts.drain(atOnce);
        await embedded?.stop();
      },
    };
  } catch (error) {
    await embedded?.stop();
    throw error;
  }
}

/** Where the database is, once it can be served from. */
export interface Ground {
  way: Way;
  embedded: EmbeddedPostgres | null;
}

/** Starts the embedded database where none is named, waits for what it must wait for, and migrates where that is wished. */
export async function prepare(
  config: Config,
  events: EventBus,
  { migrate: mayMigrate, signal, place }: Pick<ComposeOptions, 'migrate' | 'signal' | 'place'>,
): Promise<Ground> {
  const embedded =
    config.DATABASE_URL === undefined
      ? await startEmbeddedPostgres({ dataDir: config.ERRAND_DATA_DIR })
      : null;
  const url = config.DATABASE_URL ?? (embedded?.url as string);
  try {
    const way = wayOf(config, url);
    const direct = config.ERRAND_DIRECT_DATABASE_URL ?? url;
    // Others serve at the port of a process that shares it: there, nobody is told to wait.
    const openRoom = place === undefined ? anteroom : () => ({ close: async () => {} });
    await patiently({ config, events, signal, openRoom }, async () => {
      if (mayMigrate || embedded !== null) await migrate(config, url);
      await checkServable(way, direct);
    });
    await prepareClock(direct, config.ERRAND_TEST_CLOCK);
    return { way, embedded };
  } catch (error) {
    await embedded?.stop();
    throw error;
  }
}

/** Brings the schema up to date and, behind a pooler, the role's settings; one line for each thing it did. */
export async function migrate(config: Config, url: string): Promise<string[]> {
  const direct = config.ERRAND_DIRECT_DATABASE_URL ?? url;
  const way = wayOf(config, url);
  return [
    ...(await migrateSchema(direct)).map((step) => `applied ${step}`),
    ...(way.pooled ? await alone(direct, () => settleRole(way, direct)) : []),
  ];
}

function wayOf(config: Config, url: string): Way {
  return {
    url,
    pooled: config.ERRAND_POOLER !== undefined,
    settings: sessionSettings(config.ERRAND_STATEMENT_TIMEOUT_SECONDS * 1_000),
  };
}

interface Waiting {
  config: Config;
  events: EventBus;
  signal: AbortSignal | undefined;
  openRoom: (host: string, port: number, reason: () => string) => Anteroom | Promise<Anteroom>;
}

/** Does it again while what is in the way may pass, as long as the settings say; probes are answered meanwhile. */
async function patiently(
  { config, events, signal, openRoom }: Waiting,
  check: () => Promise<void>,
): Promise<void> {
  const until = performance.now() + config.startWaitSeconds * 1_000;
  let reason: string | null = null;
  let room: Anteroom | undefined;
  try {
    for (;;) {
      const error = await check().then(
        () => null,
        (cause: Error) => cause,
      );
      if (error === null) return;
      signal?.throwIfAborted();
      const words = inWords(error);
      if (!mayPass(error) || performance.now() >= until) {
        throw error.message === words ? error : new Error(words, { cause: error });
      }
      if (words !== reason) {
        reason = words;
        events.emit('service.said', { level: 'warn', message: `waiting: ${reason}` });
      }
      room ??= await openRoom(config.HOST, config.PORT, () => reason ?? '');
      await pause(wait_ms * (0.5 + Math.random()), undefined, { signal });
    }
  } finally {
    await room?.close();
  }
}

async function handlersOf(
  config: Config,
  isTrial: boolean,
  more: Iterable<Handler>,
): Promise<Map<string, Handler>> {
  const examples = fileURLToPath(new URL('../examples/handlers', import.meta.url));
  const folder = config.ERRAND_HANDLERS_DIR ?? (isTrial ? examples : undefined);
  const handlers = folder === undefined ? new Map<string, Handler>() : await loadHandlers(folder);
  for (const handler of more) handlers.set(handler.type, handler);
  for (const { type, thread, module } of handlers.values()) {
    if (thread === true && module === undefined)
      throw new Error(
        `the handler of "${type}" asks for a thread and comes from no module; load it from a folder`,
      );
  }
  return handlers;
}
