// The composition root: the only file that makes pools, clients and services and ties them together. Reading it top down
// is reading what the program is made of.
// Next room: roles/, which run what is made here.
import { randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import { fileURLToPath } from 'node:url';
import type { Actions } from './actions/actions.ts';
import { cancelling } from './actions/cancel.ts';
import { chores } from './actions/chores.ts';
import { claiming } from './actions/claim.ts';
import { inspecting } from './actions/inspect.ts';
import { pulling } from './actions/pull.ts';
import { Ready } from './actions/ready.ts';
import { settling } from './actions/settle.ts';
import { submitting } from './actions/submit.ts';
import { Waiters } from './actions/wait.ts';
import type { Config } from './config.ts';
import { Heads } from './domain/heads.ts';
import { OpenLeases } from './domain/open-leases.ts';
import { startEmbeddedPostgres } from './embedded/postgres.ts';
import { EventBus } from './events.ts';
import { buildApp } from './http/app.ts';
import { api } from './roles/api.ts';
import { dispatcher } from './roles/dispatcher.ts';
import { type Service, startAll, stopAll } from './roles/service.ts';
import { type Handler, loadHandlers } from './roles/worker/handlers.ts';
import { worker } from './roles/worker/worker.ts';
import { Hints } from './signal/redis.ts';
import { openPool, type Pool } from './store/db.ts';
import { Lanes, Workers } from './store/lanes.ts';
import { Listener, notifyReady } from './store/listen.ts';
import { migrate, missingSteps } from './store/migrate.ts';
import { sharedSecret } from './store/secrets.ts';
import { durability, ping, queueDepths } from './store/stats.ts';
import { watchingHealth } from './telemetry/health.ts';
import { logEvents } from './telemetry/log.ts';
import { metering } from './telemetry/metrics.ts';

export { openapiDocument as describe } from './http/openapi.ts';
export { migrate } from './store/migrate.ts';

export const release = '0.1.0';

/** The program under way. */
export interface Errand {
  url: string;
  actions: Actions;
  events: EventBus;
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
}

/** Builds and starts everything this process is to do; throws with the reason when it cannot. */
export async function compose(config: Config, options: ComposeOptions): Promise<Errand> {
  const events = new EventBus();
  logEvents(events, config.ERRAND_LOG_LEVEL, options.log ?? ((line) => process.stdout.write(line)));
  const embedded =
    config.DATABASE_URL === undefined
      ? await startEmbeddedPostgres({ dataDir: config.ERRAND_DATA_DIR })
      : null;
  const url = config.DATABASE_URL ?? (embedded?.url as string);
  try {
    await prepareSchema(config.ERRAND_DIRECT_DATABASE_URL ?? url, options.migrate || embedded !== null);
    const handlers = await handlersOf(config, embedded !== null, options.handlers ?? []);
    const parts = await build(config, url, events, handlers);
    await startAll(parts.services).catch(async (error) => {
      await parts.close();
      throw error;
    });
    return {
      url: parts.url(),
      actions: parts.actions,
      events,
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

async function prepareSchema(url: string, mayMigrate: boolean): Promise<void> {
  if (mayMigrate) await migrate(url);
  const missing = await missingSteps(url);
  if (missing.length > 0) {
    throw new Error(`the schema lacks ${missing.join(', ')}; run "errand migrate" first`);
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
  return handlers;
}

async function build(config: Config, url: string, events: EventBus, handlers: ReadonlyMap<string, Handler>) {
  let closed = false;
  const storeError = (where: string) => (error: unknown) => {
    // Connections that end after their pool was told to are no trouble.
    if (!closed) events.emit('store.error', { where, error });
  };
  const pool = (name: string, max: number, fixedPlans: boolean): Pool =>
    openPool({
      url,
      name,
      max,
      fixedPlans,
      statementTimeoutMs: config.ERRAND_STATEMENT_TIMEOUT_SECONDS * 1_000,
      onError: storeError(`postgres ${name}`),
    });
  const intake = pool('intake', config.ERRAND_INTAKE_CONNECTIONS, true);
  const engine = pool('engine', config.ERRAND_ENGINE_CONNECTIONS, true);
  const read = pool('read', config.ERRAND_READ_CONNECTIONS, true);
  const pools = [intake, engine, read];
  const closePools = () => Promise.all(pools.map((one) => one.end()));

  const lanes = new Lanes(read);
  const workers = new Workers(read);
  const secret = await sharedSecret(read, 'lease', randomBytes(32));
  await warnOfWeakDurability(read, events);
  await lanes.refresh();

  const heads = new Heads();
  const open = new OpenLeases();
  const ready = new Ready({
    heads,
    notify: (payload) => notifyReady(engine, payload),
    meet: (lane) => (lanes.peek(lane) === undefined ? lanes.refresh() : undefined),
    onError: storeError('notify'),
  });
  const waiters = new Waiters({
    db: read,
    most: config.ERRAND_MAX_WAITERS,
    hinted: () => hints?.up ?? false,
    onError: storeError('wait'),
  });
  const hints = config.REDIS_URL === undefined ? null : carryHints(config.REDIS_URL, waiters, events);
  const onEnded = (ids: string[]) => {
    waiters.release(ids);
    hints?.ended(ids);
  };

  const onLater = (ms: number) => choreRunner.wakeIn('promote', ms);

  const settle = settling({ db: engine, open, ready, events, onEnded, onLater });
  const claim = claiming({ db: engine, heads, lanes, open, settle, events });
  const cancel = cancelling({
    db: read,
    lanes,
    events,
    onEnded,
    onRequested: (id) => handlerRunner.cancelRequested(id),
  });
  const actions: Actions = {
    submit: submitting({ db: intake, lanes, ready, events, onLater }),
    inspect: inspecting(read, lanes, workers),
    cancel,
    pull: pulling({
      db: engine,
      claim,
      settle,
      lanes,
      workers,
      ready,
      waiters,
      secrets: [secret],
      random: Math.random,
    }),
    waiters,
  };

  const choreRunner = dispatcher({
    chores: chores({ db: engine, lanes, ready, cancel, events, random: Math.random, onEnded }),
    onRan: (chore, moved) => events.emit('chore.ran', { chore, moved }),
    onError: (chore, error) => events.emit('chore.failed', { chore, error }),
  });
  const owner = await workers.named(`${hostname()}:${process.pid}:${randomBytes(3).toString('hex')}`);
  const handlerRunner = worker({
    db: engine,
    claim,
    settle,
    ready,
    heads,
    lanes,
    handlers,
    owner: () => owner,
    concurrency: config.ERRAND_HANDLER_CONCURRENCY,
    lease_seconds: config.ERRAND_LEASE_SECONDS,
    resultLimitBytes: config.ERRAND_PAYLOAD_LIMIT_BYTES,
    random: Math.random,
    onError: (chore, error) => events.emit('chore.failed', { chore, error }),
  });

  let draining = false;
  let started = false;
  const health = watchingHealth({
    release,
    pingDatabase: () => read.one(ping),
    pingRedis: hints === null ? null : () => hints.probe(),
    loops: () => choreRunner.ages(),
    draining: () => draining,
    started: () => started,
  });
  const metrics = metering({
    events,
    depths: () => queueDepths(read),
    pools: () => pools.map((one) => ({ name: one.name, ...one.counts() })),
    waiters: () => waiters.count,
  });
  const listener = new Listener(
    config.ERRAND_DIRECT_DATABASE_URL ?? url,
    (payload) => ready.hear(payload),
    (up, error) => {
      if (!up) events.emit('store.error', { where: 'listen', error });
    },
  );
  const lifecycle = { draining: () => draining };
  const app = buildApp({ config, actions, events, metrics, health, lifecycle });
  const front = api(app, config.HOST, config.PORT);

  const roles = new Set(config.ERRAND_ROLES);
  const services: Service[] = [
    { name: 'listen', start: () => listener.start(), stop: () => listener.stop() },
    ...(hints === null ? [] : [{ name: 'hints', start: () => hints.start(), stop: () => hints.stop() }]),
    ...(roles.has('worker') || roles.has('dispatcher') ? [choreRunner] : []),
    ...(roles.has('worker') && handlers.size > 0 ? [handlerRunner] : []),
    // Every role listens: probes and metrics are asked of all of them.
    front,
    {
      name: 'started',
      start: () => {
        started = true;
      },
      stop: async () => {},
    },
  ];

  async function close(): Promise<void> {
    closed = true;
    health.stop();
    await closePools();
  }

  return {
    services,
    actions,
    url: () => front.url(),
    close,
    async drain(atOnce: boolean): Promise<void> {
      draining = true;
      const deadline = performance.now() + config.ERRAND_DRAIN_DEADLINE_SECONDS * 1_000;
      events.emit('service.said', { level: 'info', message: 'draining' });
      // Claiming stops at once; the API serves on until balancers have noticed.
      const handlersDone = services.includes(handlerRunner)
        ? handlerRunner.stop(deadline)
        : Promise.resolve();
      const delay = atOnce ? 0 : config.drainDelaySeconds * 1_000;
      await new Promise((resolve) => setTimeout(resolve, delay));
      await front.stop(deadline);
      await handlersDone;
      const rest = services.filter((service) => service !== front && service !== handlerRunner);
      for (const error of await stopAll(rest, deadline))
        events.emit('store.error', { where: 'drain', error });
      await close();
      events.emit('service.said', { level: 'info', message: 'drained' });
    },
  };
}

function carryHints(url: string, waiters: Waiters, events: EventBus): Hints {
  return new Hints({
    url,
    onHint: (ids) => {
      events.emit('hint.received', { ids: ids.length });
      waiters.release(ids);
    },
    onSent: (ids) => events.emit('hint.sent', { ids }),
    onState: (up, error) => {
      if (!up) events.emit('store.error', { where: 'redis', error });
      // Hints may have been missed while it was away.
      else waiters.lookNow().catch((cause) => events.emit('store.error', { where: 'wait', error: cause }));
    },
  });
}

async function warnOfWeakDurability(db: Pool, events: EventBus): Promise<void> {
  const { fsync, synchronous_commit } = await db.one(durability);
  if (fsync === 'off' || synchronous_commit === 'off') {
    events.emit('service.said', {
      level: 'warn',
      message: 'postgres may lose what it has confirmed: a 202 is no promise here',
      fsync,
      synchronous_commit,
    });
  }
}
