// Everything a process is made of: pools, clients, verbs and services, made and tied together here and nowhere else.
// Reading it top down is reading what the program is made of.
// Next room: verbs.ts, what can be asked; movers.ts and runners.ts, what moves and runs jobs; roles/, which run what is made here.
import { randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import { chores } from '../actions/chores.ts';
import { keepingRoster, writingRoster } from '../actions/roster.ts';
import { TestClock } from '../actions/test-clock.ts';
import type { Config } from '../config.ts';
import { issueLeaseId } from '../domain/lease-id.ts';
import { draining } from '../drain.ts';
import type { EventBus } from '../events.ts';
import { buildApp } from '../http/app.ts';
import type { Place } from '../processes/place.ts';
import { release } from '../release.ts';
import { api } from '../roles/api.ts';
import { runningChores } from '../roles/chores.ts';
import type { Service } from '../roles/service.ts';
import type { Handler } from '../roles/worker/handlers.ts';
import type { Worker } from '../roles/worker/worker.ts';
import { Listener } from '../store/listen.ts';
import type { Way } from '../store/session.ts';
import { bulk } from './bulk.ts';
import { counting } from './counting.ts';
import { declaring } from './declaring.ts';
import { desk } from './desk.ts';
import { movers } from './movers.ts';
import { office } from './office.ts';
import { hiring } from './runners.ts';
import { openStores } from './stores.ts';
import { telling } from './telling.ts';
import { verbs } from './verbs.ts';
import { vitals } from './vitals.ts';

/** Builds the parts; nothing runs yet but the pools and the probes of health. */
export async function build(
  config: Config,
  way: Way,
  events: EventBus,
  handlers: ReadonlyMap<string, Handler>,
  place: Place | undefined,
) {
  const stores = await openStores(config, way, events);
  const { engine, read, leads, browse, lanes, workers, secrets } = stores;
  const storeError = stores.onError;
  const clock = config.ERRAND_TEST_CLOCK
    ? new TestClock({
        db: read,
        catchUp: async () => {
          await operators.levers.look();
          await Promise.all([choreRunner.catchUp(), dispatch?.catchUp()]);
        },
        onError: storeError('clock'),
      })
    : null;
  if (clock !== null) {
    await clock.look();
    events.emit('service.said', { level: 'warn', message: 'the clock can be moved: this is for tests only' });
  }

  const isFrozen = () => clock?.frozen ?? false;
  const now = () => clock?.now() ?? new Date();

  const operators = await desk({
    engine,
    read,
    lanes,
    secret: secrets.cursor,
    onRelease: () => ready.wake(),
    onError: (chore, error) => events.emit('chore.failed', { chore, error }),
  });
  const told = telling(config, stores, events);
  const { waiters, watch, hints, ended: onEnded } = told;
  const onLater = (ms: number) => choreRunner.wakeIn('promote', ms);
  const onRequested = (ids: readonly string[]) => {
    for (const runner of runners) for (const id of ids) runner.cancelRequested(id);
    watch.hear(ids);
  };
  const moves = movers(stores, events, {
    ...{ now, onEnded, onLater },
    mayClaim: (lane) => operators.levers.mayClaim(lane),
    onFree: () => choreRunner.wakeIn('promote', 0),
    onRequested: (id) => onRequested([id]),
  });
  const { heads, ready, handOver, progress, settle, claim, cancel, keys } = moves;

  const roster = keepingRoster({
    db: browse,
    lanes,
    workers,
    secret: secrets.cursor,
    self: () =>
      runners.length === 0
        ? null
        : {
            worker: owner,
            kind: 'process',
            version: release,
            slots: runners.reduce((sum, { slots }) => sum + slots, 0),
            pushes: true,
            queues: [],
            types: [...handlers.keys()],
          },
  });
  const holder = `${hostname()}:${process.pid}:${randomBytes(3).toString('hex')}`;
  const owner = await workers.named(holder);
  const counts = counting({ engine, read, process: owner, levers: operators.levers, lanes, events });
  const inBulk = bulk({
    db: browse,
    engine,
    lanes,
    ready,
    events,
    secret: secrets.cursor,
    onEnded,
    onLater,
    closed: (queue, pointer) => actions.accept.closed(queue, now(), pointer),
    onRequested,
    onDue: () => choreRunner.wakeIn('operations', 0),
    onError: storeError('notify'),
  });
  const actions = verbs(config, stores, events, {
    ...{ movers: moves, telling: told, operators, counts, roster, now, onLater },
    inBulk: inBulk.verbs,
  });

  const roles = new Set(config.ERRAND_ROLES);
  const movesJobs = roles.has('worker') || roles.has('dispatcher');
  const choreRunner = runningChores({
    // Every process looks for what hints missed: its own pull workers wait for it.
    chores: [
      ...chores({
        db: engine,
        lanes,
        heads,
        ready,
        cancel,
        events,
        keys,
        random: Math.random,
        onEnded,
      }).filter((chore) => movesJobs || chore.name === 'look'),
      writingRoster(roster),
      counts.chore,
      ...(movesJobs ? [inBulk.chore] : []),
    ],
    isFrozen,
    onRan: (chore, moved) => events.emit('chore.ran', { chore, moved }),
    onError: (chore, error) => events.emit('chore.failed', { chore, error }),
  });
  const dispatch =
    leads === null
      ? null
      : office({
          ...{ db: leads, read: browse, config, lanes, cancel, events, keys, holder, isFrozen },
          policyOf: actions.policyOf,
          isDrained: (queue) => operators.levers.drainOf(queue) !== null,
          unknown: (queue) => actions.accept.unknown(queue, null),
        });
  const hands = {
    db: engine,
    claim,
    handOver: handOver.handOver,
    settle,
    ready,
    heads,
    lanes,
    owner: () => owner,
    lease_seconds: config.ERRAND_LEASE_SECONDS,
    random: Math.random,
    onError: (chore: string, error: unknown) => events.emit('chore.failed', { chore, error }),
  };
  const hired = hiring({
    config,
    hands,
    handlers,
    progress,
    onDropped: (event) => events.emit('progress.dropped', event),
    secrets: secrets.signing,
    seal: (job) => issueLeaseId(job, secrets.lease),
    release,
    onAnswered: (event) => events.emit('target.answered', event),
  });
  const runners: readonly Worker[] = roles.has('worker') ? hired.runners : [];

  const leave = { draining: false, leaving: false };
  let started = false;
  const { health, metrics } = vitals(stores, events, {
    ...{ release, holder, telling: told, counts, roster, dispatch, runners, place },
    levers: operators.levers,
    ages: () => ({ ...choreRunner.ages(), ...dispatch?.ages(), ...operators.ages() }),
    draining: () => leave.draining,
    started: () => started,
  });
  const listener = new Listener(
    config.ERRAND_DIRECT_DATABASE_URL ?? way.url,
    {
      errand_ready: (payload) => ready.hear(payload),
      errand_operation: () => choreRunner.wakeIn('operations', 0),
      errand_levers: () => operators.hear(),
      ...(clock === null ? {} : { errand_clock: () => clock.hear() }),
    },
    (up, error) => {
      if (!up) events.emit('store.error', { where: 'listen', error });
      // What was told while nobody listened is found by looking.
      else {
        choreRunner.wakeIn('look', 0);
        operators.hear();
        clock?.hear();
      }
    },
  );
  const lifecycle = { draining: () => leave.draining, leaving: () => leave.leaving };
  const app = buildApp({ config, actions, events, metrics, health, lifecycle, clock });
  const front = api(app, config.HOST, config.PORT);

  const services: Service[] = [
    operators.service,
    { name: 'listen', start: () => listener.start(), stop: () => listener.stop() },
    ...(hints === null ? [] : [{ name: 'hints', start: () => hints.start(), stop: () => hints.stop() }]),
    // First of all: who cannot start for a faulty schedule has not claimed a job yet.
    ...(roles.has('api') && config.ERRAND_SCHEDULES !== undefined
      ? [declaring(app, config.ERRAND_SCHEDULES, events)]
      : []),
    // What stops last of these two: the roster is written no more when this process leaves it.
    { name: 'roster', start: () => {}, stop: () => roster.leave() },
    counts.service,
    choreRunner,
    ...(dispatch === null ? [] : [dispatch]),
    ...runners,
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
    stores.closing();
    health.stop();
    await hired.close();
    await stores.close();
  }

  return {
    services,
    actions,
    url: () => front.url(),
    close,
    drain: draining({
      leave,
      delay_ms: config.drainDelaySeconds * 1_000,
      most_ms: config.ERRAND_DRAIN_DEADLINE_SECONDS * 1_000,
      events,
      runners,
      front,
      services,
      crowds: [waiters, watch],
      close,
    }),
  };
}
