// Everything a process is made of: pools, clients, verbs and services, made and tied together here and nowhere else.
// Reading it top down is reading what the program is made of.
// Next room: runners.ts, the part that runs jobs; roles/, which run what is made here.
import { randomBytes } from 'node:crypto';
import { hostname } from 'node:os';
import { accepting } from './actions/accept.ts';
import type { Actions } from './actions/actions.ts';
import { cancelling } from './actions/cancel.ts';
import { changing } from './actions/change.ts';
import { chores } from './actions/chores.ts';
import { claiming } from './actions/claim.ts';
import { deadLettering } from './actions/dead-letters.ts';
import { estimating } from './actions/estimate.ts';
import { handingOver } from './actions/hand-over.ts';
import { beating } from './actions/heartbeat.ts';
import { recalling } from './actions/history.ts';
import { inspecting, naming } from './actions/inspect.ts';
import { keeping } from './actions/keys.ts';
import { readingLatency } from './actions/latency.ts';
import { listing } from './actions/list.ts';
import { progressing } from './actions/progress.ts';
import { pulling } from './actions/pull.ts';
import { Ready } from './actions/ready.ts';
import { redriving } from './actions/redrive.ts';
import { keepingRoster, writingRoster } from './actions/roster.ts';
import { running } from './actions/runs.ts';
import { scheduling } from './actions/schedules.ts';
import { settling } from './actions/settle.ts';
import { knownJob, submitting } from './actions/submit.ts';
import { submittingAll } from './actions/submit-all.ts';
import { TestClock } from './actions/test-clock.ts';
import { triggering } from './actions/trigger.ts';
import { explaining } from './actions/why.ts';
import { bulk } from './bulk.ts';
import type { Config } from './config.ts';
import { counting } from './counting.ts';
import { declaring } from './declaring.ts';
import { desk } from './desk.ts';
import { Heads } from './domain/heads.ts';
import { issueLeaseId } from './domain/lease-id.ts';
import { OpenLeases } from './domain/open-leases.ts';
import type { PolicyOf } from './domain/policy.ts';
import { retryDefaultsOf } from './domain/queue-settings.ts';
import { draining } from './drain.ts';
import type { EventBus } from './events.ts';
import { buildApp } from './http/app.ts';
import { office } from './office.ts';
import type { Place } from './place.ts';
import { api } from './roles/api.ts';
import { runningChores } from './roles/chores.ts';
import type { Service } from './roles/service.ts';
import type { Handler } from './roles/worker/handlers.ts';
import type { Worker } from './roles/worker/worker.ts';
import { hiring } from './runners.ts';
import { dispatcherRoom, findLeader } from './store/leader.ts';
import { Listener, notifyReady } from './store/listen.ts';
import { countOperations } from './store/operations.ts';
import type { Way } from './store/session.ts';
import { oldestDue } from './store/slots.ts';
import { ping } from './store/stats.ts';
import { openStores } from './stores.ts';
import { watchingHealth } from './telemetry/health.ts';
import { metering } from './telemetry/metrics.ts';
import { telling } from './telling.ts';

export const release = '0.1.0';

/** Builds the parts; nothing runs yet but the pools and the probes of health. */
export async function build(
  config: Config,
  way: Way,
  events: EventBus,
  handlers: ReadonlyMap<string, Handler>,
  place: Place | undefined,
) {
  const stores = await openStores(config, way, events);
  const { intake, engine, read, leads, claims, browse, lanes, workers, secrets } = stores;
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

  const operators = await desk({
    engine,
    read,
    lanes,
    secret: secrets.cursor,
    onRelease: () => ready.wake(),
    onError: (chore, error) => events.emit('chore.failed', { chore, error }),
  });
  const heads = new Heads((lane) => operators.levers.mayClaim(lane));
  const open = new OpenLeases();
  const ready = new Ready({
    heads,
    notify: (payload) => notifyReady(engine, payload),
    meet: (lane) => (lanes.peek(lane) === undefined ? lanes.refresh() : undefined),
    onError: storeError('notify'),
  });
  const { waiters, watch, hints, ended: onEnded } = telling(config, stores, events);
  const onLater = (ms: number) => choreRunner.wakeIn('promote', ms);

  const named = naming(lanes, workers);
  const inspect = inspecting(read, named);
  const heartbeat = beating(engine);
  const handOver = handingOver({ db: engine, open, heartbeat });
  const progress = progressing({ db: engine, events });
  const settle = settling({
    db: engine,
    open,
    ready,
    events,
    onEnded,
    onLater,
    now: () => clock?.now() ?? new Date(),
  });
  const claim = claiming({ db: claims, heads, lanes, open, settle, events });
  const cancel = cancelling({
    db: read,
    lanes,
    events,
    ready,
    onEnded,
    onRequested: (id) => {
      for (const runner of runners) runner.cancelRequested(id);
      watch.hear([id]);
    },
  });
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
  const keys = keeping({
    ...{ db: engine, lanes, ready, events, onEnded, onLater, onError: storeError('unique') },
    onFree: () => choreRunner.wakeIn('promote', 0),
  });
  events.on('job.ended', ({ job_id }) => keys.heardEnd(job_id));
  const intakeOf = { db: intake, lanes, ready, events, keys, onLater, guards: counts.guards };
  const policyOf: PolicyOf = (queue, type) => retryDefaultsOf(operators.levers.settingsOf(queue), type);
  const accept = accepting({
    levers: operators.levers,
    statistics: counts.statistics,
    hasLane: (queue) => lanes.hasQueue(queue),
    isKnown: async (key) => (await knownJob(intake, key)) !== undefined,
    strict: config.ERRAND_STRICT_QUEUES,
    cap_seconds: config.ERRAND_WAIT_CAP_SECONDS,
  });
  const closed = (queue: string, pointer: string | null) =>
    accept.closed(queue, clock?.now() ?? new Date(), pointer);
  const inBulk = bulk({
    db: browse,
    engine,
    lanes,
    ready,
    events,
    secret: secrets.cursor,
    onEnded,
    onLater,
    closed,
    onRequested: (ids) => {
      for (const runner of runners) for (const id of ids) runner.cancelRequested(id);
      watch.hear(ids);
    },
    onDue: () => choreRunner.wakeIn('operations', 0),
    onError: storeError('notify'),
  });
  const actions: Actions = {
    accept,
    submit: submitting(intakeOf),
    submitAll: submittingAll(intakeOf),
    inspect,
    history: recalling(browse, workers),
    list: listing({
      db: browse,
      named,
      secret: secrets.cursor,
      // A job may be made by the last of a few statements of its transaction.
      overlap_seconds: config.ERRAND_STATEMENT_TIMEOUT_SECONDS * 5,
    }),
    cancel,
    change: changing({
      ...{ db: read, inspect, lanes, ready, events, onLater },
      closed,
    }),
    pull: roster.hearing(
      pulling({
        claim,
        heartbeat,
        standing: handOver.standing,
        progress,
        settle,
        inspect,
        lanes,
        workers,
        ready,
        heads,
        waiters,
        secrets: [secrets.lease],
        random: Math.random,
        now: () => clock?.now() ?? new Date(),
      }),
    ),
    schedules: scheduling({ db: browse, secret: secrets.cursor, events }),
    trigger: triggering({
      ...{ ...intakeOf, policyOf },
      closed: (queue) => closed(queue, null),
    }),
    policyOf,
    runs: running({ db: browse, secret: secrets.cursor }),
    ...operators.actions,
    deadLetters: deadLettering({
      ...{ db: browse, lanes, events, secret: secrets.cursor },
      redrives: redriving({ lanes, ready, events, onLater, closed }),
    }),
    ...inBulk.verbs,
    leader: () => read.maybeOne(findLeader, [dispatcherRoom]),
    roster,
    statistics: counts.statistics,
    guards: counts.guards,
    estimate: estimating({
      statistics: counts.statistics,
      levers: operators.levers,
      random: () => Math.random(),
    }),
    latency: readingLatency({ db: browse }),
    waiters,
    watch,
    why: explaining({
      db: browse,
      inspect,
      lanes,
      workers,
      roster,
      pausesOf: (queue, type) => operators.levers.pausesOf(queue, type),
    }),
  };

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
          ...{ policyOf, db: leads, read: browse, config, lanes, cancel, events, keys, holder, isFrozen },
          isDrained: (queue) => operators.levers.drainOf(queue) !== null,
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
  const health = watchingHealth({
    release,
    holder,
    pingDatabase: () =>
      read.sound(ping, ({ read_only }) => (read_only ? 'postgres answers but refuses writes' : null)),
    pingRedis: hints === null ? null : () => hints.probe(),
    loops: () => ({ ...choreRunner.ages(), ...dispatch?.ages(), ...operators.ages() }),
    draining: () => leave.draining,
    started: () => started,
  });
  const metrics = metering({
    events,
    depths: counts.depths,
    unserved: () => roster.unserved(),
    operations: () => read.many(countOperations),
    oldestDue: async () => (await read.one(oldestDue)).seconds,
    term: () => dispatch?.term() ?? null,
    pools: stores.counts,
    slots: () => runners,
    waiters: () => waiters.count,
    watch: () => ({ streams: watch.streams, jobs: watch.jobs }),
    ...(place === undefined ? {} : { process: place.number }),
  });
  place?.metricsFrom(metrics.text);
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
  const shown = place === undefined ? metrics : { ...metrics, text: place.metricsOfAll };
  const app = buildApp({ config, actions, events, metrics: shown, health, lifecycle, clock });
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
