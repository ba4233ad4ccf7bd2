// Why this room exists: what is true on the wire is seen only on a socket, so tests get the API on a free port and a
// client that sends bytes as they are and reads answers without helping.
// Invariant: a test file fails when any answer of its servers is not one the OpenAPI document foresees.
// Next room: contract.ts, which judges; fake-actions.ts, the jobs behind it.
import assert from 'node:assert/strict';
import { type AddressInfo, connect, type Socket } from 'node:net';
import { after } from 'node:test';
import { readConfig } from '../../src/config.ts';
import { EventBus, type Events } from '../../src/events.ts';
import { type App, type AppOptions, buildApp } from '../../src/http/app.ts';
import { Contract, type Document, type Exchange, watchAnswers } from './contract.ts';
import { FakeJobs } from './fake-actions.ts';

/** The API on a port of its own. */
export interface Served {
  app: App;
  port: number;
  jobs: FakeJobs;
  /** What operators were told of. */
  errors: Events['http.error'][];
  /** What the metrics were told: route, method, status. */
  observed: string[];
}

export interface ServeOptions
  extends Partial<Pick<AppOptions, 'health' | 'lifecycle' | 'limits' | 'streams'>> {
  env?: Record<string, string>;
  jobs?: FakeJobs;
}

/** Serves the API over fake jobs until the test file ends. */
export async function serve(options: ServeOptions = {}): Promise<Served> {
  const { env = {}, jobs = new FakeJobs(), ...rest } = options;
  const events = new EventBus();
  const errors: Events['http.error'][] = [];
  const observed: string[] = [];
  events.on('http.error', (event) => errors.push(event));
  const config = readConfig({ ERRAND_WAIT_DEFAULT_SECONDS: '0.3', ...env });
  const app = buildApp({
    config,
    actions: jobs.actions,
    events,
    metrics: {
      contentType: 'text/plain; version=0.0.4; charset=utf-8',
      text: async () => '# HELP errand_up 1\n',
      observeHttp: (route, method, status) => observed.push(`${method} ${route} ${status}`),
    },
    health: healthy,
    ...rest,
  });
  await app.ready();
  const answers: Exchange[] = [];
  watchAnswers(app.server, (exchange) => answers.push(exchange));
  await app.listen({ host: '127.0.0.1', port: 0 });
  after(async () => {
    app.server.closeAllConnections();
    await app.close();
    // Judged at the end, so that it takes no time from tests that measure some.
    const contract = contractOf(app, config.ERRAND_ROLES);
    const faults = new Set(answers.flatMap((exchange) => contract.faultsOf(exchange)));
    assert.equal([...faults].join('\n'), '', 'every answer is one the document foresees');
  });
  return { app, port: (app.server.address() as AddressInfo).port, jobs, errors, observed };
}

// Of all settings only the roles are seen in the document, which takes longer to make than most tests.
const contracts = new Map<string, Contract>();

function contractOf(app: App, roles: readonly string[]): Contract {
  const known = contracts.get(roles.join());
  if (known !== undefined) return known;
  const made = new Contract(app.swagger() as unknown as Document);
  contracts.set(roles.join(), made);
  return made;
}

const healthy: AppOptions['health'] = {
  live: () => ({ ok: true }),
  ready: () => ({ ok: true }),
  startup: () => ({ ok: true }),
  report: async () => ({ ok: true, body: { status: 'pass', checks: {} } }),
};

/** The name of a header and its value, as they are written. */
export type Header = readonly [string, string];

/** An answer as it came over the wire. */
export interface WireAnswer {
  status: number;
  headers: Record<string, string>;
  body: string;
  /** Whether a 100 came before it. */
  continued: boolean;
  /** Whether the server closed the connection afterwards. */
  closed: boolean;
}

/** A request to be written as bytes; `host` and `content-length` are added unless given. */
export interface WireRequest {
  method?: string;
  path?: string;
  version?: '1.0' | '1.1';
  headers?: readonly Header[];
  body?: string | Buffer;
  /** Send the body only after a 100. */
  awaitsContinue?: boolean;
}

/** Sends one request on a socket of its own and reads one answer. */
export async function send(port: number, request: WireRequest): Promise<WireAnswer> {
  const body = Buffer.from(request.body ?? '');
  return converse(port, headOf(request, body), body, request.awaitsContinue ?? false);
}

/** Sends JSON; `body` may be text that is no JSON. */
export function post(
  port: number,
  path: string,
  body: unknown,
  headers: readonly Header[] = [],
): Promise<WireAnswer> {
  const text = typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body);
  const type = headers.some(([name]) => name.toLowerCase() === 'content-type');
  return send(port, {
    method: 'POST',
    path,
    headers: type ? headers : [['Content-Type', 'application/json'], ...headers],
    body: text,
  });
}

/** Reads a path. */
export function get(port: number, path: string, headers: readonly Header[] = []) {
  return send(port, { path, headers });
}

/** Writes bytes as they are and reads one answer. */
export function sendBytes(port: number, bytes: string | Buffer): Promise<WireAnswer> {
  return converse(port, Buffer.from(bytes), Buffer.alloc(0), false);
}

/** The head of a request as bytes; `host` and `content-length` are added unless given. */
export function headOf(
  { method = 'GET', path = '/', version = '1.1', headers = [] }: WireRequest,
  body: Buffer,
): Buffer {
  const has = (name: string) => headers.some(([one]) => one.toLowerCase() === name);
  const lines = [`${method} ${path} HTTP/${version}`];
  if (!has('host')) lines.push('Host: errand.test');
  if (body.length > 0 && !has('content-length') && !has('transfer-encoding'))
    lines.push(`Content-Length: ${body.length}`);
  for (const [name, value] of headers) lines.push(`${name}: ${value}`);
  return Buffer.from(`${lines.join('\r\n')}\r\n\r\n`, 'latin1');
}

async function converse(
  port: number,
  head: Buffer,
  body: Buffer,
  awaitsContinue: boolean,
): Promise<WireAnswer> {
  const socket = await open(port);
  const isHead = head.toString('latin1').startsWith('HEAD ');
  const answer = readAnswer(socket, 'close', isHead, awaitsContinue ? () => socket.write(body) : undefined);
  socket.write(head);
  if (!awaitsContinue) socket.write(body);
  return answer;
}

/** Reads one answer; `keep` leaves the connection to further requests. */
export function readAnswer(
  socket: Socket,
  afterwards: 'close' | 'keep' = 'close',
  isHead = false,
  onContinue?: () => void,
): Promise<WireAnswer> {
  return new Promise((resolve, reject) => {
    const reader = new AnswerReader(isHead);
    let rest: NodeJS.Timeout | undefined;
    const finish = (closed: boolean) => {
      clearTimeout(rest);
      socket.off('data', onData).off('end', onEnd).off('close', onEnd);
      if (afterwards === 'close') socket.destroy();
      const answer = reader.answer(closed);
      if (answer !== null) resolve(answer);
      else reject(new Error(`no complete answer: ${JSON.stringify(reader.text().slice(0, 300))}`));
    };
    const onData = (chunk: Buffer) => {
      const before = reader.continued;
      reader.push(chunk);
      if (!before && reader.continued) onContinue?.();
      if (!reader.isComplete()) return;
      // A server that means to close does so at once; one that keeps the connection says nothing more.
      clearTimeout(rest);
      rest = setTimeout(() => finish(false), reader.saysClose() ? 2_000 : 5);
    };
    const onEnd = () => finish(true);
    socket.on('data', onData).once('end', onEnd).once('close', onEnd);
  });
}

class AnswerReader {
  readonly #isHead: boolean;
  #bytes = Buffer.alloc(0);
  continued = false;

  constructor(isHead: boolean) {
    this.#isHead = isHead;
  }

  push(chunk: Buffer): void {
    this.#bytes = Buffer.concat([this.#bytes, chunk]);
    const interim = 'HTTP/1.1 100 Continue\r\n\r\n';
    if (!this.continued && this.text().startsWith(interim)) {
      this.continued = true;
      this.#bytes = this.#bytes.subarray(interim.length);
    }
  }

  text(): string {
    return this.#bytes.toString('latin1');
  }

  saysClose(): boolean {
    return this.answer(false)?.headers.connection === 'close';
  }

  isComplete(): boolean {
    const answer = this.answer(false);
    if (answer === null) return false;
    const length = answer.headers['content-length'];
    return this.#isHead || length === undefined || Buffer.byteLength(answer.body) >= Number(length);
  }

  answer(closed: boolean): WireAnswer | null {
    const text = this.#bytes.toString('utf8');
    const split = text.indexOf('\r\n\r\n');
    if (split < 0) return null;
    const [first = '', ...lines] = text.slice(0, split).split('\r\n');
    const headers: Record<string, string> = {};
    for (const line of lines) {
      const colon = line.indexOf(':');
      headers[line.slice(0, colon).toLowerCase()] = line.slice(colon + 1).trim();
    }
    return {
      status: Number(first.split(' ')[1]),
      headers,
      body: text.slice(split + 4),
      continued: this.continued,
      closed,
    };
  }
}

/** The problem in an answer; throws unless it is one. */
export function problemOf(answer: WireAnswer): Record<string, unknown> & { code: string; status: number } {
  if (answer.headers['content-type'] !== 'application/problem+json') {
    throw new Error(
      `no problem but ${answer.status} ${answer.headers['content-type']}: ${answer.body.slice(0, 200)}`,
    );
  }
  return JSON.parse(answer.body);
}

/** A socket that stays open, for tests that misbehave slowly. */
export function open(port: number): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const socket = connect(port, '127.0.0.1', () => resolve(socket));
    // A connection that is cut is something to look at, not a reason to end the test.
    socket.on('error', reject);
  });
}

/** Runs tasks, at most 100 at a time, and answers in their order. */
export async function inParallel<T>(tasks: readonly (() => Promise<T>)[]): Promise<T[]> {
  const results: T[] = [];
  let nextTask = 0;
  const lanes = Array.from({ length: 100 }, async () => {
    for (let i = nextTask++; i < tasks.length; i = nextTask++)
      results[i] = await (tasks[i] as () => Promise<T>)();
  });
  await Promise.all(lanes);
  return results;
}
