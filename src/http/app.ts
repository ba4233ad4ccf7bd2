// The table of contents of the API: what every request passes through, in order, and every route there is.
// Invariants: a route that is not listed here does not exist; nothing that reads a body runs before the checks that can
// refuse it.
// Next room: submit.ts for the main road; roles/api.ts, which listens.
import { type FastifyInstance, type FastifySchemaCompiler, fastify } from 'fastify';
import type { Actions } from '../actions/actions.ts';
import type { TestClock } from '../actions/test-clock.ts';
import type { Config } from '../config.ts';
import { most_report_bytes } from '../domain/start.ts';
import type { EventBus } from '../events.ts';
import { type AdmissionLimits, admissionLimits, admitting } from './admission.ts';
import { listAudit } from './audit.ts';
import { submitBatch } from './batch.ts';
import { bodies, envelope_bytes, many_bytes, readAnything, readMany, readValue, readWithin } from './body.ts';
import { browsing } from './browse.ts';
import { redriveMany, rerouteQueue } from './bulk.ts';
import { context, type Metrics, requestIdOf, setDefaultHeaders } from './context.ts';
import { patchJob, retryJob } from './control.ts';
import { confirmAction, listActions, proposeAction, readAction, withdrawAction } from './dangerous.ts';
import { discardDeadLetter, listDeadLetters, readDeadLetter, redriveDeadLetter } from './dead-letters.ts';
import { listProblems, readOpenapi, readProblem } from './docs.ts';
import { documentation } from './document.ts';
import { readEvents, type StreamLimits, streamLimits } from './events.ts';
import { type Health, probe, readHealth } from './health.ts';
import { validateJob } from './job-preview.ts';
import { cancelJob, readJob } from './jobs.ts';
import {
  complete,
  fail,
  heartbeat,
  leaseJobs,
  release,
  reportCheckpoint,
  reportProgress,
  snooze,
} from './leases.ts';
import { listJobs } from './list.ts';
import { completeMany, failMany, heartbeatMany, releaseMany } from './many-leases.ts';
import { readMetrics } from './metrics.ts';
import { negotiation } from './negotiate.ts';
import {
  cancelOperation,
  listItems,
  listOperations,
  readOperation,
  resumeOperation,
  undoOperation,
} from './operations.ts';
import { errors, sendProblem } from './problem.ts';
import { drainQueue, pauseQueue, resumeQueue } from './queue-levers.ts';
import { readLatency, readQueueStats } from './queue-statistics.ts';
import { deleteQueue, listQueues, patchQueue, putQueue, readQueue } from './queues.ts';
import { submitRaw } from './raw.ts';
import type { Route } from './route.ts';
import { listRuns, pauseSchedule, readLeader, resumeSchedule, triggerSchedule } from './schedule-control.ts';
import { forecastSchedule, previewSchedule } from './schedule-preview.ts';
import { deleteSchedule, listSchedules, patchSchedule, putSchedule, readSchedule } from './schedules.ts';
import { answerClientError, headerChecks, type ServerLimits, serverLimits, serving } from './server.ts';
import { readResult, readStatus } from './status.ts';
import { submitJob } from './submit.ts';
import { moveClock, readClock } from './test-clock.ts';
import { unrouted } from './unrouted.ts';
import { checking, sparing, validatorCompiler } from './validate.ts';
import { explainJob } from './why.ts';
import { listWorkers } from './workers.ts';

/** The API, ready to listen. */
export type App = FastifyInstance;

export interface AppOptions {
  config: Config;
  actions: Actions;
  events: EventBus;
  metrics: Metrics;
  health: Health;
  /** Whether the process has begun to stop, and whether balancers have had their time to notice. */
  lifecycle?: { draining: () => boolean; leaving: () => boolean };
  /** The clock that tests move; absent: the real one. */
  clock?: TestClock | null;
  /** Limits of the server and of what it takes in that differ from the usual ones. */
  limits?: Partial<ServerLimits & AdmissionLimits>;
  /** Times of streams that differ from the usual ones. */
  streams?: Partial<StreamLimits>;
}

/** Builds the API; it listens, answers `inject`, and releases its waiters when closed. */
export function buildApp(options: AppOptions): App {
  const { config, actions, metrics, health, clock } = options;
  const payloadLimit = config.ERRAND_PAYLOAD_LIMIT_BYTES;
  const errorOptions = { events: options.events };
  const wait = {
    defaultWaitSeconds: config.ERRAND_WAIT_DEFAULT_SECONDS,
    waitCapSeconds: config.ERRAND_WAIT_CAP_SECONDS,
  };
  const terms = { reach: config.privateTargets, policyOf: actions.policyOf };
  const lease_seconds = config.ERRAND_LEASE_SECONDS;
  const isDraining = () => options.lifecycle?.draining() ?? false;
  const isLeaving = () => options.lifecycle?.leaving() ?? false;

  const onClosing = () => {
    actions.waiters.drain();
    actions.watch.drain();
  };

  const limits = { ...serverLimits, ...admissionLimits, ...options.limits };
  const admit = admitting({
    limits,
    unknown_bytes: payloadLimit,
    largest_bytes: Math.max(many_bytes, payloadLimit + envelope_bytes),
    held: () => actions.waiters.count + actions.watch.streams,
    isDraining,
    events: options.events,
    observe: (...what) => metrics.observeHttp(...what),
  });

  const now = () => clock?.now() ?? new Date();
  const app = fastify({
    logger: false,
    bodyLimit: payloadLimit + envelope_bytes,
    genReqId: requestIdOf,
    serverFactory: serving(limits, admit),
    clientErrorHandler: answerClientError,
    // Ours answers with problem+json: see context.ts.
    return503OnClosing: false,
    frameworkErrors: (error, request, reply) => {
      setDefaultHeaders(request, reply);
      sendProblem(error, request, reply, errorOptions);
    },
  });
  app.setValidatorCompiler(validatorCompiler);
  // Answers are text already; nothing is run over them.
  app.setSerializerCompiler(() => JSON.stringify);

  const { estimate } = actions;
  app.register(context, { metrics, now, estimate, isDraining, onClosing });
  app.register(errors, errorOptions);
  app.register(headerChecks);
  app.register(negotiation, wait);
  app.register(unrouted);
  app.register(bodies, { payloadLimit });
  app.register(documentation);

  app.register(async (scope) => {
    const { get, post, put, patch, del } = verbsOf(scope, payloadLimit + envelope_bytes);

    if (config.ERRAND_ROLES.includes('api')) {
      get('/v1/jobs', listJobs(actions));
      post('/v1/jobs', submitJob(actions, terms));
      get('/v1/jobs/:id', readJob(actions));
      get('/v1/jobs/:id/status', readStatus(actions, wait));
      get('/v1/jobs/:id/events', readEvents(actions, { ...streamLimits, ...options.streams }));
      get('/v1/jobs/:id/result', readResult(actions));
      get('/v1/jobs/:id/why', explainJob(actions));
      patch('/v1/jobs/:id', patchJob(actions));
      post('/v1/jobs/:id/cancel', cancelJob(actions));
      post('/v1/jobs/:id/retry', retryJob(actions));

      post('/v1/jobs/validate', validateJob(actions, terms));

      get('/v1/queues', listQueues(actions));
      get('/v1/queues/:queue', readQueue(actions));
      put('/v1/queues/:queue', putQueue(actions));
      patch('/v1/queues/:queue', patchQueue(actions));
      del('/v1/queues/:queue', deleteQueue(actions));
      get('/v1/queues/:queue/stats', readQueueStats(actions));
      get('/v1/queues/:queue/latency', readLatency(actions));
      post('/v1/queues/:queue/pause', pauseQueue(actions));
      post('/v1/queues/:queue/resume', resumeQueue(actions));
      post('/v1/queues/:queue/drain', drainQueue(actions));

      get('/v1/schedules', listSchedules(actions));
      get('/v1/schedules/:name', readSchedule(actions));
      del('/v1/schedules/:name', deleteSchedule(actions));
      post('/v1/schedules/:name/pause', pauseSchedule(actions));
      post('/v1/schedules/:name/resume', resumeSchedule(actions));
      post('/v1/schedules/:name/trigger', triggerSchedule(actions));
      get('/v1/schedules/:name/runs', listRuns(actions));
      get('/v1/schedules/:name/preview', forecastSchedule(actions));
      get('/v1/leader', readLeader(actions));

      get('/v1/dead-letters', listDeadLetters(actions));
      get('/v1/dead-letters/:id', readDeadLetter(actions));
      post('/v1/dead-letters/:id/redrive', redriveDeadLetter(actions));
      post('/v1/dead-letters/:id/discard', discardDeadLetter(actions));

      get('/v1/audit', listAudit(actions));
      get('/v1/operations', listOperations(actions));
      get('/v1/operations/:id', readOperation(actions));
      get('/v1/operations/:id/items', listItems(actions));
      post('/v1/operations/:id/cancel', cancelOperation(actions));
      post('/v1/operations/:id/undo', undoOperation(actions));
      post('/v1/operations/:id/resume', resumeOperation(actions));
      post('/v1/dead-letters/redrive', redriveMany(actions));
      post('/v1/queues/:queue/reroute', rerouteQueue(actions));
      get('/v1/admin/actions', listActions(actions));
      post('/v1/admin/actions', proposeAction(actions));
      get('/v1/admin/actions/:id', readAction(actions));
      del('/v1/admin/actions/:id', withdrawAction(actions));
      post('/v1/admin/actions/:id/confirm', confirmAction(actions));
      get('/v1/workers', listWorkers(actions));

      post('/v1/leases', leaseJobs(actions, lease_seconds, wait, isLeaving));
      post('/v1/leases/:id/heartbeat', heartbeat(actions, lease_seconds, isDraining));
      post('/v1/leases/:id/complete', complete(actions));
      post('/v1/leases/:id/fail', fail(actions));
      post('/v1/leases/:id/release', release(actions));
      post('/v1/leases/:id/snooze', snooze(actions));
    }

    get('/health', readHealth(health));
    get('/health/live', probe(health, 'live', 'Whether to restart the process'));
    get('/health/ready', probe(health, 'ready', 'Whether to send requests here'));
    get('/health/startup', probe(health, 'startup', 'Whether the process has started'));
    get('/metrics', readMetrics(metrics));
    get(
      '/openapi.json',
      readOpenapi(() => app.swagger()),
    );
    get('/problems', listProblems());
    get('/problems/:slug', readProblem());
    if (clock) {
      get('/test/clock', readClock(clock));
      post('/test/clock', moveClock(clock));
    }
  });

  if (!config.ERRAND_ROLES.includes('api')) return app;
  app.register(async (scope) => {
    readMany(scope, 'jobs', payloadLimit);
    const { post } = verbsOf(scope, many_bytes);
    post('/v1/jobs/batch', submitBatch(actions, terms));
  });
  app.register(async (scope) => {
    // One result that is too large must not cost its neighbours: the items look at their own.
    readMany(scope, 'leases', Number.POSITIVE_INFINITY);
    const { post } = verbsOf(scope, many_bytes);
    post('/v1/leases/heartbeat', heartbeatMany(actions, lease_seconds, isDraining));
    post('/v1/leases/complete', completeMany(actions, payloadLimit));
    post('/v1/leases/fail', failMany(actions));
    post('/v1/leases/release', releaseMany(actions));
  });
  app.register(async (scope) => {
    readWithin(scope, 'job', payloadLimit);
    const { post, put, patch } = verbsOf(scope, payloadLimit + envelope_bytes);
    post('/v1/schedules/preview', previewSchedule(actions, terms));
    put('/v1/schedules/:name', putSchedule(actions, terms));
    patch('/v1/schedules/:name', patchSchedule(actions, terms));
  });
  app.register(async (scope) => {
    readAnything(scope);
    const { post } = verbsOf(scope, payloadLimit);
    post('/v1/queues/:queue/jobs', submitRaw(actions, terms));
  });
  app.register(async (scope) => {
    readValue(scope);
    const { put } = verbsOf(scope, most_report_bytes);
    put('/v1/leases/:id/progress', reportProgress(actions));
    put('/v1/leases/:id/checkpoint', reportCheckpoint(actions));
  });
  app.register(browsing);
  return app;
}

/** The verbs of a scope in which bodies are read in one way. */
function verbsOf(scope: FastifyInstance, bodyLimit: number) {
  const verb =
    (method: 'GET' | 'POST' | 'PUT' | 'PATCH' | 'DELETE') =>
    <G extends object>(url: string, route: Route<G>): void => {
      const { check, usual, ...rest } = route as Route;
      const compiler =
        check !== undefined ? checking(check) : usual !== undefined ? sparing(usual) : validatorCompiler;
      scope.route({
        method,
        url,
        bodyLimit,
        validatorCompiler: compiler as FastifySchemaCompiler<unknown>,
        ...rest,
      });
    };
  return {
    get: verb('GET'),
    post: verb('POST'),
    put: verb('PUT'),
    patch: verb('PATCH'),
    del: verb('DELETE'),
  };
}
