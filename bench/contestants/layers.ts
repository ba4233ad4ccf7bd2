// POST /v1/jobs built up from bare Fastify to the whole HTTP tier, of the very parts the program is made of: the argument says
// how many of the layers are on. The last one answers as the program does, but stores nothing.
// Next room: ../figures/layers.ts, which names the layers and tells the price of each.
import type { AddressInfo } from 'node:net';
import { type FastifySchemaCompiler, fastify } from 'fastify';
import type { Accept, AcceptAsk } from '../../src/actions/accept.ts';
import type { Actions } from '../../src/actions/actions.ts';
import type { EstimateJob } from '../../src/actions/estimate.ts';
import type { Submit } from '../../src/actions/submit.ts';
import { publicOnly } from '../../src/domain/address.ts';
import { unsetQueue } from '../../src/domain/queue-settings.ts';
import { EventBus } from '../../src/events.ts';
import { bodies } from '../../src/http/body.ts';
import { context, requestIdOf } from '../../src/http/context.ts';
import { negotiation } from '../../src/http/negotiate.ts';
import { NewJob, usualJob } from '../../src/http/schemas/new-job.ts';
import { headerChecks, serverLimits, serving } from '../../src/http/server.ts';
import { submitJob } from '../../src/http/submit.ts';
import { sparing, validatorCompiler } from '../../src/http/validate.ts';
import { metricsAlone } from '../counting.ts';

const layers = Number(process.argv[2]);
const has = (layer: number) => layers >= layer;

const events = new EventBus();
const metrics = metricsAlone(events);
const nothingCounted = { ...metrics, observeHttp: () => {} };

let stored = 0;
const submit: Submit = async ({ queue, type }) => {
  const id = String(++stored);
  events.emit('job.submitted', { job_id: id, lane: 1, queue, type, state: 'queued', replayed: false });
  return { replayed: false, id, created_at: new Date(), run_at: null, state: 'queued' };
};

const estimate: EstimateJob = () => ({ seconds: 1, basis: 'age' });

// Nothing is set of any queue.
const accept: Accept = Object.assign(({ mode }: AcceptAsk) => mode, {
  closed: () => null,
  unknown: () => null,
});

const app = fastify({
  logger: false,
  ...(has(1)
    ? {
        genReqId: requestIdOf,
        serverFactory: serving(serverLimits, () => true),
        return503OnClosing: false,
      }
    : {}),
});
app.setValidatorCompiler(validatorCompiler);
app.setSerializerCompiler(() => JSON.stringify);
if (has(1)) {
  app.register(context, {
    metrics: has(2) ? metrics : nothingCounted,
    now: () => new Date(),
    estimate,
    isDraining: () => false,
    onClosing: () => {},
  });
  app.register(headerChecks);
}
if (has(3)) app.register(negotiation, { defaultWaitSeconds: 10, waitCapSeconds: 25 });
if (has(4)) app.register(bodies, { payloadLimit: 256 * 1024 });
else {
  app.removeAllContentTypeParsers();
  app.addContentTypeParser('application/json', { parseAs: 'buffer' }, (_request, body, done) =>
    done(null, body),
  );
}
app.register(async (scope) => {
  const whole = submitJob({ accept, submit } as Partial<Actions> as Actions, {
    reach: publicOnly,
    policyOf: () => unsetQueue.defaults,
  });
  const { usual: _, handler, ...rest } = whole;
  const checked = {
    schema: { body: NewJob },
    validatorCompiler: sparing(usualJob) as FastifySchemaCompiler<unknown>,
  };
  scope.route({
    method: 'POST',
    url: '/v1/jobs',
    ...(has(5) ? checked : {}),
    ...(has(3) ? { config: rest.config ?? {} } : {}),
    handler: has(6)
      ? (handler as never)
      : (_request, reply) => {
          reply.code(202).header('location', '/v1/jobs/1').type('application/json').send('{"id":"1"}');
        },
  });
});

await app.listen({ host: '127.0.0.1', port: 0 });
console.log(`listens on http://127.0.0.1:${(app.server.address() as AddressInfo).port}`);
process.on('SIGTERM', () => process.exit(0));
