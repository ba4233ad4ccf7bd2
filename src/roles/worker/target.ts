// Sends one request to a target and brings back its answer. The target is somebody else's program: it may hang, lie, flood
// or lead elsewhere, and none of that may cost more than this one request.
// Invariants: a connection is used only if its own remote address may be reached, so what a name resolves to later does
// not matter; no redirect is followed, nothing is decompressed; header and body bytes, connections and time are bounded.
// Next room: domain/push.ts, which judges the answer.
import type { LookupAddress } from 'node:dns';
import { lookup as resolveName } from 'node:dns/promises';
import { isIP, type LookupFunction } from 'node:net';
import { buildConnector, type Dispatcher, Pool } from 'undici';
import { type AddressPolicy, mayReach } from '../../domain/address.ts';
import type { Target } from '../../domain/options.ts';
import type { FailureReason, TargetAnswer } from '../../domain/push.ts';

export interface TargetRequest {
  url: string;
  method: Target['method'];
  headers: Record<string, string>;
  body: Buffer;
}

/** What cuts a request. An AbortSignal would do, but its listeners cost more than all of that is done here. */
export interface Cut {
  readonly isStopped: boolean;
  /** To be called when it stops; set for as long as a request is under way. */
  onStop: (() => void) | undefined;
}

export interface Sender {
  /** Never throws. `cut` is the limit of the whole request; when it stops, the connection is cut. */
  send(request: TargetRequest, cut: Cut): Promise<TargetAnswer>;
  close(): Promise<void>;
}

export interface SenderOptions {
  policy: AddressPolicy;
  /** Most connections to one origin; as many as may send at once, so that nothing waits for one. */
  connections: number;
  /** Most bytes of an answer's body. */
  bodyLimit: number;
  connectTimeoutMs?: number;
  bodyTimeoutMs?: number;
  resolve?: (hostname: string) => Promise<LookupAddress[]>;
}

/** Builds the sender. */
export function sending(options: SenderOptions): Sender {
  const { policy, bodyLimit, connectTimeoutMs = 5_000, bodyTimeoutMs = 30_000 } = options;
  const resolve = options.resolve ?? ((hostname) => resolveName(hostname, { all: true }));
  const places = new Places();
  const pools = new Pools({
    connections: options.connections,
    pipelining: 1,
    // Most targets close idle connections after some seconds: a request that meets the close is an attempt lost.
    keepAliveTimeout: 1_000,
    keepAliveMaxTimeout: 1_000,
    maxHeaderSize: 16_384,
    headersTimeout: 0,
    bodyTimeout: bodyTimeoutMs,
    connect: guarded(policy, resolve, connectTimeoutMs),
  });

  return {
    async send({ url, method, headers, body }, cut) {
      const { host, origin, path } = places.of(url);
      const pool = pools.take(origin);
      try {
        if (cut.isStopped) throw aborted();
        const answering = new Answering(bodyLimit);
        // A request that is still connecting does not hear of it before it is connected.
        cut.onStop = () => answering.fail(aborted());
        pool.pool.dispatch({ method, headers, body, path }, answering);
        return await answering.answer;
      } catch (error) {
        const { reason, message } = cut.isStopped ? aborted() : failureOf(error);
        return { kind: 'failed', reason, detail: `${host} ${message}` };
      } finally {
        cut.onStop = undefined;
        pools.giveBack(pool);
      }
    },
    close: () => pools.destroy(),
  };
}

/** Takes in the answer to one request as it comes. Streams and signals for each request would cost more than all of the rest. */
class Answering implements Dispatcher.DispatchHandler {
  readonly answer: Promise<TargetAnswer>;
  #resolve: (answer: TargetAnswer) => void;
  #reject: (reason: unknown) => void;
  #limit: number;
  #controller: Dispatcher.DispatchController | undefined;
  #failure: Error | undefined;
  #interim = 0;
  #status = 0;
  #headers: Record<string, string> = {};
  #chunks: Buffer[] = [];
  #bytes = 0;

  constructor(limit: number) {
    this.#limit = limit;
    const { promise, resolve, reject } = Promise.withResolvers<TargetAnswer>();
    this.answer = promise;
    this.#resolve = resolve;
    this.#reject = reject;
  }

  /** Cuts the connection, now or as soon as there is one; what was answered before stands. */
  fail(reason: Error): void {
    this.#failure = reason;
    this.#reject(reason);
    this.#controller?.abort(reason);
  }

  onRequestStart(controller: Dispatcher.DispatchController): void {
    this.#controller = controller;
    if (this.#failure !== undefined) controller.abort(this.#failure);
  }

  onResponseStart(
    _: Dispatcher.DispatchController,
    status: number,
    headers: Record<string, string | string[] | undefined>,
  ): void {
    if (status >= 200) {
      this.#status = status;
      this.#headers = single(headers);
    } else if (++this.#interim > most_interim) {
      this.fail(new Failure('protocol', 'sent too many interim answers'));
    }
  }

  onResponseData(_: Dispatcher.DispatchController, chunk: Buffer): void {
    this.#bytes += chunk.length;
    if (this.#bytes <= this.#limit) this.#chunks.push(chunk);
    else {
      this.#answered(null);
      this.fail(new Failure('too_large', 'answered with more than is taken'));
    }
  }

  onResponseEnd(): void {
    const [first] = this.#chunks;
    this.#answered(this.#chunks.length === 1 && first !== undefined ? first : Buffer.concat(this.#chunks));
  }

  onResponseError(_: Dispatcher.DispatchController, error: Error): void {
    // Only a result must be whole; any other answer is in the status.
    const needsBody = this.#status >= 200 && this.#status <= 299 && this.#status !== 202;
    if (this.#status === 0 || needsBody) this.#reject(error);
    else this.#answered(null);
  }

  /** The body as the bytes that came, or null when they were too many or did not all come. */
  #answered(body: Buffer | null): void {
    this.#resolve({ kind: 'answered', status: this.#status, headers: this.#headers, body });
  }
}

const most_interim = 16;
/** Origins whose connections are kept; every request under way may have one more. */
const most_origins = 256;
/** URLs that are remembered as they were read. */
const most_places = 1_000;

interface OpenPool {
  readonly pool: Pool;
  /** Requests under way. */
  open: number;
}

/** What of a URL a request needs: most go to a few URLs, and reading one costs as much as signing. */
class Places {
  #known = new Map<string, { host: string; origin: string; path: string }>();

  of(url: string) {
    const known = this.#known.get(url);
    if (known !== undefined) return known;
    const { host, origin, pathname, search } = new URL(url);
    const made = { host, origin, path: pathname + search };
    if (this.#known.size >= most_places) this.#known.clear();
    this.#known.set(url, made);
    return made;
  }
}

/** A pool of connections for each origin; those not used for the longest time are let go first. */
class Pools {
  #options: Pool.Options;
  #byOrigin = new Map<string, OpenPool>();

  constructor(options: Pool.Options) {
    this.#options = options;
  }

  take(origin: string): OpenPool {
    const one = this.#byOrigin.get(origin) ?? { pool: new Pool(origin, this.#options), open: 0 };
    this.#byOrigin.delete(origin);
    this.#byOrigin.set(origin, one);
    one.open++;
    return one;
  }

  giveBack(one: OpenPool): void {
    one.open--;
    this.#letGo();
  }

  async destroy(): Promise<void> {
    await Promise.all([...this.#byOrigin.values()].map(({ pool }) => pool.destroy()));
  }

  #letGo(): void {
    for (const [origin, { pool, open }] of this.#byOrigin) {
      if (this.#byOrigin.size <= most_origins) return;
      if (open > 0) continue;
      this.#byOrigin.delete(origin);
      void pool.destroy();
    }
  }
}

/** Why there is no answer, in words that go after the host. */
class Failure extends Error {
  readonly reason: FailureReason;
  constructor(reason: FailureReason, message: string) {
    super(message);
    this.reason = reason;
  }
}

const aborted = () => new Failure('aborted', 'had not answered when the request was cut');
const refused = () =>
  new Failure('address', 'leads to an address that may not be reached; see ERRAND_PRIVATE_TARGETS');

/** Connects to addresses that may be reached, and to no others. */
function guarded(
  policy: AddressPolicy,
  resolve: (hostname: string) => Promise<LookupAddress[]>,
  timeout: number,
): buildConnector.connector {
  // One slow name must not take all of the few threads that resolve names.
  const resolving = new Map<string, Promise<LookupAddress[]>>();
  function resolveOnce(hostname: string): Promise<LookupAddress[]> {
    const known = resolving.get(hostname);
    if (known !== undefined) return known;
    const made = resolve(hostname).finally(() => resolving.delete(hostname));
    resolving.set(hostname, made);
    return made;
  }
  // A name with one address that may not be reached is refused whole: which one would be used is up to chance.
  const lookup: LookupFunction = (hostname, wish, answer) => {
    resolveOnce(hostname).then(
      (all) => {
        const [first] = all;
        if (first === undefined || all.some(({ address }) => !mayReach(address, policy)))
          answer(refused(), '');
        else if (wish.all === true) answer(null, all);
        else answer(null, first.address, first.family);
      },
      (error) => answer(error, ''),
    );
  };
  const connect = buildConnector({ allowH2: false, timeout, lookup });
  return (wish, answer) => {
    // Literal addresses are never looked up.
    if (isIP(wish.hostname) !== 0 && !mayReach(wish.hostname, policy)) return answer(refused(), null);
    connect(wish, (error, socket) => {
      if (socket === null || error !== null) return answer(error ?? refused(), null);
      if (mayReach(socket.remoteAddress ?? '', policy)) return answer(null, socket);
      socket.destroy();
      answer(refused(), null);
    });
  };
}

/** Of a header that came several times, the first. */
function single(headers: Record<string, string | string[] | undefined>): Record<string, string> {
  const firsts: Record<string, string> = {};
  for (const [name, value] of Object.entries(headers)) {
    const first = Array.isArray(value) ? value[0] : value;
    if (first !== undefined) firsts[name.toLowerCase()] = first;
  }
  return firsts;
}

function failureOf(error: unknown): Failure {
  if (error instanceof Failure) return error;
  const code = String((error as { code?: unknown } | null)?.code ?? 'unknown');
  switch (code) {
    case 'UND_ERR_CONNECT_TIMEOUT':
      return new Failure('connect', 'did not take the connection in time');
    case 'UND_ERR_HEADERS_OVERFLOW':
      return new Failure('too_large', 'answered with more than 16 KiB of headers');
    case 'UND_ERR_BODY_TIMEOUT':
      return new Failure('reset', 'stopped in the middle of its answer');
    case 'UND_ERR_SOCKET':
    case 'ECONNRESET':
    case 'EPIPE':
      return new Failure('reset', 'closed the connection before its answer was complete');
    case 'ENOTFOUND':
    case 'EAI_AGAIN':
      return new Failure('connect', `cannot be found (${code})`);
  }
  if (/^(CERT_|DEPTH_ZERO_|ERR_SSL_|ERR_TLS_|SELF_SIGNED_|UNABLE_TO_|EPROTO)/.test(code)) {
    return new Failure('tls', `cannot be trusted (${code})`);
  }
  if (/^E[A-Z]+$/.test(code)) return new Failure('connect', `cannot be reached (${code})`);
  return new Failure('protocol', `did not answer in HTTP (${code})`);
}
