// The short way of the usual submit: a POST /v1/jobs that says nothing but its body is read, checked, stored and answered on
// node's own request and response. Fastify's hooks, objects and streams around them cost more than all that is done for it
// here (the figure "layers" of the bench tells the price).
// Invariants: a caller cannot tell which way a request went, and a test holds the two together; whatever has a header that
// means something to a submit goes the other way.
// Next room: submit.ts, the other way; actions/submit.ts, where both lead.
import type { IncomingMessage, ServerResponse } from 'node:http';
import type { Actions } from '../actions/actions.ts';
import type { Submission } from '../actions/submit.ts';
import { plainAsync } from '../domain/expectation.ts';
import { jobEtag } from '../domain/job.ts';
import { type Problem, toBody } from '../domain/problem.ts';
import { recordText } from '../domain/record.ts';
import type { EventBus } from '../events.ts';
import { estimateText, existing, spliced, statusPath } from './answer.ts';
import { envelopeOf } from './body.ts';
import { type Metrics, requestIdOf } from './context.ts';
import { problemType, toldProblem } from './problem.ts';
import { NewJob, usualJob } from './schemas/job.ts';
import { headerFault, type TakePlain } from './server.ts';
import { factsOfNew, submissionOf, type Terms } from './submission.ts';
import { replayHeader, submitHeaders } from './submit.ts';
import { checked } from './validate.ts';

export interface PlainSubmitOptions {
  actions: Pick<Actions, 'accept' | 'submit' | 'inspect' | 'estimate'>;
  terms: Terms;
  payloadLimit: number;
  now: () => Date;
  /** Whether the process has begun to stop: then connections end with their answers. */
  isStopping: () => boolean;
  events: EventBus;
  metrics: Pick<Metrics, 'observeHttp'>;
}

/** `POST /v1/jobs` without expectation, preference, key or trace (docs/contract.md, Modes, the last row). */
export function plainSubmits({ payloadLimit, isStopping, ...options }: PlainSubmitOptions): TakePlain {
  const { now, metrics } = options;
  const most = Math.min(most_bytes, payloadLimit);

  async function serve(request: IncomingMessage, response: ServerResponse, asked: Asked, began: number) {
    const id = requestIdOf(request);
    const { status, headers, text } = await submitted(asked, id, options, now);
    const all = [
      'x-request-id',
      id,
      ...sameHeaders,
      // A refusal may have the mode itself.
      ...(headers.includes('errand-mode') ? [] : understood),
      ...headers,
      'content-length',
      `${Buffer.byteLength(text)}`,
    ];
    if (isStopping()) all.push('connection', 'close');
    response.writeHead(status, all);
    response.end(text);
    metrics.observeHttp(path, 'POST', status, (performance.now() - began) / 1_000);
  }

  return (request, response) => {
    if (!isPlain(request, most) || isStopping()) return false;
    const began = performance.now();
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    // It comes only where the whole body came; a caller who breaks off has stored nothing.
    request.on('end', () => {
      void serve(request, response, read(chunks.splice(0), options.terms), began);
    });
    return true;
  };
}

const path = '/v1/jobs';

/** Larger bodies are read by Fastify, which counts them while they come. */
const most_bytes = 64 * 1024;

const otherWay = [
  ...submitHeaders.map((name) => name.toLowerCase()),
  'content-encoding',
  'transfer-encoding',
];

const sameHeaders = [...['cache-control', 'no-store'], ...['x-content-type-options', 'nosniff']];
const understood = ['errand-mode', plainAsync.errandMode];

const nothingAside = { idempotency: null, options: null };

function isPlain(request: IncomingMessage, most: number): boolean {
  const { method, url, headers } = request;
  if (url !== path || method !== 'POST' || headers['content-type'] !== 'application/json') return false;
  const length = Number(headers['content-length']);
  if (!(length > 0 && length <= most)) return false;
  for (const name of otherWay) if (headers[name] !== undefined) return false;
  return headerFault(request) === null;
}

/** What a body asks for, or what is wrong with it. */
type Asked = { submission: Submission } | { error: unknown };

/** Reads a body at once, so that its bytes are let go before anything is waited for: under load they are most of what is held. */
function read(chunks: readonly Buffer[], terms: Terms): Asked {
  try {
    const [first] = chunks;
    const envelope = envelopeOf(first !== undefined && chunks.length === 1 ? first : Buffer.concat(chunks));
    return { submission: submissionOf(usualJob(envelope) ?? checked(NewJob, envelope), nothingAside, terms) };
  } catch (error) {
    return { error };
  }
}

interface Answer {
  status: number;
  /** Names and values in turn. */
  headers: string[];
  text: string;
}

/** Stores the job that is asked for; whatever is thrown is an answer too. */
async function submitted(
  asked: Asked,
  requestId: string,
  { actions, events }: Pick<PlainSubmitOptions, 'actions' | 'events'>,
  now: () => Date,
): Promise<Answer> {
  try {
    if ('error' in asked) throw asked.error;
    const { submission } = asked;
    const accepted = actions.accept({ submission, mode: plainAsync, now: now(), pointer: '#/queue' });
    if (accepted instanceof Promise) await accepted;
    const stored = await actions.submit(submission);
    // Without an idempotency key only the holder of a unique key can have been there already.
    const facts = stored.replayed
      ? await existing(actions.inspect, stored.id)
      : factsOfNew(submission, stored);
    const estimate = actions.estimate(facts, now());
    const status = statusPath(facts.id);
    const headers = [
      ...(stored.replayed ? [replayHeader(stored), 'true'] : []),
      ...['link', `<${status}>; rel="status"`],
      ...(estimate === null ? [] : ['retry-after', `${estimate.seconds}`]),
      ...['location', status],
      ...['content-location', `/v1/jobs/${facts.id}`],
      ...['etag', jobEtag(facts)],
      ...['content-type', 'application/json'],
    ];
    const shown = estimate === null ? undefined : estimateText(estimate);
    return { status: 202, headers, text: spliced(recordText(facts), 'estimate', shown) };
  } catch (error) {
    return refusedWith(toldProblem(error, requestId, events), requestId);
  }
}

function refusedWith(problem: Problem, requestId: string): Answer {
  const headers = [...Object.entries(problem.headers).flat(), 'content-type', problemType];
  return { status: problem.status, headers, text: JSON.stringify(toBody(problem, requestId)) };
}
