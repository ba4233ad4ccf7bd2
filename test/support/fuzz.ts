// Why this room exists: the service is asked what its own document allows, and what it does not, for every operation that
// the document lists; each answer must be one that the document foresees.
// Invariant: nothing is waited for without a limit, streams included.
// Next room: plans.ts, which makes the requests; contract.ts, which judges the answers.
import { Agent, type IncomingMessage, request as open } from 'node:http';
import { inspect } from 'node:util';
import fc from 'fast-check';
import type { Events } from '../../src/events.ts';
import { Contract, type Document, type Operation } from './contract.ts';
import { startErrand } from './errand.ts';
import { type Plan, Plans } from './plans.ts';
import { handlers, World } from './world.ts';

const answer_ms = 5_000;
const stream_ms = 200;

const refusals: ReadonlySet<unknown> = new Set(
  'malformed-json invalid-utf8 duplicate-key bad-header validation-failed payload-not-storable unsupported-media-type'.split(
    ' ',
  ),
);

interface Answer {
  status: number;
  headers: IncomingMessage['headers'];
  body: string | null;
}

const troubling = ['http.error', 'store.error', 'chore.failed', 'invariant.violated'] as const;

/** Starts Errand on a fresh database, watched for every trouble of its own, and what asks it. */
export async function startWatched() {
  const waits = { ERRAND_WAIT_DEFAULT_SECONDS: '0.1', ERRAND_WAIT_CAP_SECONDS: '0.2' };
  const errand = await startErrand({ handlers, env: waits });
  const troubles: string[] = [];
  for (const name of troubling) {
    errand.events.on(name, (event: Events[typeof name]) => troubles.push(`${name}: ${inspect(event)}`));
  }
  const document = (await (await fetch(`${errand.url}/openapi.json`)).json()) as Document;
  const fuzz = new Fuzz(document, new World(errand.url));
  return {
    fuzz,
    troubles,
    /** What the service says of its health; null: it is well. */
    async complaint(): Promise<string | null> {
      const text = await (await fetch(`${errand.url}/health`)).text();
      return (JSON.parse(text) as { status: string }).status === 'pass' ? null : text;
    },
    async stop(): Promise<void> {
      fuzz.close();
      await errand.stop();
    },
  };
}

/** Asks the operations of a document. */
export class Fuzz {
  readonly operations: readonly Operation[];
  readonly #met = new Map<Operation, Map<number, number>>();
  readonly #contract: Contract;
  readonly #plans: Plans;
  readonly #world: World;
  readonly #agent = new Agent({ keepAlive: true, maxSockets: 4 });

  constructor(document: Document, world: World) {
    this.#contract = new Contract(document);
    this.operations = this.#contract.operations;
    this.#plans = new Plans(document, world.favourites);
    this.#world = world;
  }

  /** Asks an operation so many times; throws with the smallest request whose answer was not foreseen. */
  async probe(operation: Operation, options: { seed: number; numRuns: number }): Promise<void> {
    const plans = this.#plans.of(operation);
    const property = fc.asyncProperty(plans, async (plan) => {
      const faults = await this.#ask(operation, plan);
      if (faults.length > 0) throw new Error(faults.join('\n'));
    });
    await fc.assert(property, {
      ...options,
      interruptAfterTimeLimit: 30_000 + 500 * options.numRuns,
      markInterruptAsFailure: true,
    });
  }

  /** Every status that was met. */
  get statuses(): ReadonlySet<number> {
    return new Set([...this.#met.values()].flatMap((statuses) => [...statuses.keys()]));
  }

  get requests(): number {
    return [...this.#met.values()].flatMap((statuses) => [...statuses.values()]).reduce((a, b) => a + b, 0);
  }

  succeeded(operation: Operation): boolean {
    return [...(this.#met.get(operation)?.keys() ?? [])].some((status) => status >= 200 && status < 400);
  }

  /** How often an operation was answered with which status. */
  tally(operation: Operation): string {
    const statuses = [...(this.#met.get(operation) ?? [])].sort(([a], [b]) => a - b);
    return statuses.map(([status, times]) => `${status}×${times}`).join(' ');
  }

  close(): void {
    this.#agent.destroy();
  }

  #count(operation: Operation, status: number): void {
    const statuses = this.#met.get(operation) ?? new Map<number, number>();
    this.#met.set(operation, statuses.set(status, (statuses.get(status) ?? 0) + 1));
  }

  async #ask(operation: Operation, plan: Plan): Promise<string[]> {
    const { path, method } = operation;
    const target = await this.#targetOf(path, plan);
    const body = await this.#bodyOf(plan);
    const began = performance.now();
    let answer: Answer;
    try {
      answer = await this.#send(method, target, plan.headers, body);
    } catch (error) {
      return [`${method} ${target}: no answer within ${answer_ms} ms: ${(error as Error).message}`];
    }
    const ms = performance.now() - began;
    this.#count(operation, answer.status);
    this.#world.learn(answer.headers, answer.body);
    return [
      ...this.#contract.faultsOf({ method, target, ...answer }),
      ...statusFaults(answer, plan).map((fault) => `${method} ${target} => ${answer.status}: ${fault}`),
      ...(ms > answer_ms ? [`${method} ${target}: answered after ${Math.round(ms)} ms`] : []),
    ];
  }

  async #targetOf(path: string, { ids, query }: Plan): Promise<string> {
    const steps = path.split('/');
    let parameter = 0;
    for (const [at, step] of steps.entries()) {
      if (!step.startsWith('{')) continue;
      const id = ids[parameter++] ?? '';
      const chosen = typeof id === 'string' ? id : await this.#world.idIn(steps[at - 1] as string, id);
      steps[at] = /^%/.test(chosen) ? chosen : encodeURIComponent(chosen);
    }
    const search = query.map((pair) => pair.map(encodeURIComponent).join('=')).join('&');
    return search === '' ? steps.join('/') : `${steps.join('/')}?${search}`;
  }

  async #bodyOf({ body }: Plan): Promise<Plan['body']> {
    if (typeof body?.text !== 'string') return body;
    return { ...body, text: await this.#world.inhabit(body.text) };
  }

  #send(method: string, target: string, headers: Plan['headers'], body: Plan['body']): Promise<Answer> {
    const type = body?.type == null ? {} : { 'content-type': body.type };
    const signal = AbortSignal.timeout(answer_ms);
    return new Promise((resolve, reject) => {
      const { hostname, port } = new URL(this.#world.url);
      const options = { hostname, port, method, path: target, agent: this.#agent, signal };
      const request = open({ ...options, headers: { ...type, ...headers } }, (response) => {
        const { statusCode: status = 0 } = response;
        const chunks: Buffer[] = [];
        const finish = (text: string | null) => resolve({ status, headers: response.headers, body: text });
        response.on('data', (chunk: Buffer) => chunks.push(chunk));
        response.on('end', () => finish(Buffer.concat(chunks).toString()));
        response.on('error', reject);
        if (!/event-stream/.test(response.headers['content-type'] ?? '')) return;
        setTimeout(() => {
          finish(null);
          request.destroy();
        }, stream_ms);
      });
      // An answer that came before the body was sent stands, whatever becomes of the connection.
      request.on('error', reject);
      request.end(body?.text);
    });
  }
}

function statusFaults({ status, headers, body }: Answer, { isAllowed, body: sent }: Plan): string[] {
  const code = codeOf(body, headers);
  // These speak of the job, not of the request or the server.
  const isOfJob = code === 'job-failed' || code === 'job-expired';
  const isBusy = status === 503 && headers['retry-after'] !== undefined;
  if (status >= 500 && !isOfJob && !isBusy) return [`a fault of the server: ${body}`];
  if (!isAllowed || !refusals.has(code)) return [];
  return [`refused although its schema allows it: ${body}; sent ${sent?.text}`];
}

function codeOf(body: string | null, headers: IncomingMessage['headers']): unknown {
  if (body === null || headers['content-type'] !== 'application/problem+json') return null;
  return (JSON.parse(body) as { code?: unknown }).code;
}
