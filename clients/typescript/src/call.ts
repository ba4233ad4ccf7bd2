// One HTTP call, and the patience to repeat it.
// Invariants: no call lasts without a limit; whatever is not a success is thrown as an ErrandProblem or an
// UnexpectedAnswer; what is repeated may be repeated, which its caller knows.
// Next room: errand.ts, which makes the calls.
import { ErrandProblem, UnexpectedAnswer } from './problem.ts';
import type { Problem } from './shapes.ts';

export interface Connection {
  /** Where the service is, such as `http://127.0.0.1:8080`. */
  url: string;
  /** Headers for every request, such as Authorization. */
  headers?: Readonly<Record<string, string>>;
  /** Instead of the global one. */
  fetch?: typeof fetch;
  /** How long calls that may be repeated are repeated while nobody answers; default 60. */
  patienceSeconds?: number;
}

export interface Request {
  method?: 'GET' | 'POST' | 'PUT';
  headers?: Readonly<Record<string, string>> | undefined;
  /** Sent as JSON. */
  json?: unknown;
  redirect?: 'follow' | 'manual';
  signal?: AbortSignal | undefined;
  /** Limit of the call; default 30. */
  seconds?: number;
}

/** An answer sooner than this was not held, whatever was wished. */
export const held_ms = 1_000;

const first_pause_ms = 100;
const longest_pause_ms = 5_000;

export class Caller {
  readonly #base: string;
  readonly #headers: Readonly<Record<string, string>>;
  readonly #fetch: typeof fetch;
  readonly #patience_ms: number;

  constructor({ url, headers = {}, fetch: given, patienceSeconds = 60 }: Connection) {
    this.#base = url.replace(/\/+$/, '');
    this.#headers = headers;
    // Looked up at each call: tests and tracers replace the global one.
    this.#fetch = given ?? ((input, init) => fetch(input, init));
    this.#patience_ms = patienceSeconds * 1_000;
  }

  /** Sends one request; the answer is a success or a redirect. */
  async send(path: string, request: Request = {}): Promise<Response> {
    return this.#send(path, request, JSON.stringify(request.json));
  }

  /** Sends a request that may be repeated, and repeats it while nobody answers or the service says "not now". */
  async persist(path: string, request: Request = {}): Promise<Response> {
    // Written once, before the first attempt: the TypeError of what is no JSON must not be taken for silence.
    const body = JSON.stringify(request.json);
    return this.repeat(() => this.#send(path, request, body), request.signal);
  }

  /** Repeats what fails for want of an answer, with growing pauses, for as long as patience lasts. */
  async repeat<T>(
    attempt: () => Promise<T>,
    signal?: AbortSignal,
    patience_ms = this.#patience_ms,
  ): Promise<T> {
    const until = performance.now() + patience_ms;
    for (let pause_ms = first_pause_ms; ; pause_ms = Math.min(pause_ms * 2, longest_pause_ms)) {
      try {
        return await attempt();
      } catch (error) {
        const wait_ms = waitBefore(error, pause_ms);
        if (signal?.aborted || wait_ms === null || performance.now() + wait_ms > until) throw error;
        await pause(wait_ms, signal);
      }
    }
  }

  async #send(path: string, request: Request, body: string | undefined): Promise<Response> {
    const { method = 'GET', headers = {}, redirect = 'follow', seconds = 30 } = request;
    const type = body === undefined ? {} : { 'Content-Type': 'application/json' };
    const answer = await this.#fetch(`${this.#base}${path}`, {
      method,
      headers: {
        Accept: 'application/json, application/problem+json',
        ...this.#headers,
        ...type,
        ...headers,
      },
      redirect,
      signal: within(seconds, request.signal),
      ...(body === undefined ? {} : { body }),
    });
    if (answer.status >= 400) throw await errorOf(answer);
    return answer;
  }
}

/** Waits; throws the reason when the signal aborts. */
export function pause(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    if (signal?.aborted) return reject(signal.reason);
    const leave = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener('abort', leave);
      resolve();
    }, ms);
    signal?.addEventListener('abort', leave, { once: true });
  });
}

/** The seconds in `Retry-After`. */
export function retryAfterOf({ headers }: Response): number | null {
  const value = headers.get('retry-after');
  return value !== null && /^\d+$/.test(value) ? Number(value) : null;
}

function within(seconds: number, signal: AbortSignal | undefined): AbortSignal {
  const limit = AbortSignal.timeout(Math.ceil(seconds * 1_000));
  return signal === undefined ? limit : AbortSignal.any([signal, limit]);
}

async function errorOf(answer: Response): Promise<Error> {
  const text = await answer.text();
  if (answer.headers.get('content-type')?.startsWith('application/problem+json')) {
    return new ErrandProblem(JSON.parse(text) as Problem, retryAfterOf(answer));
  }
  return new UnexpectedAnswer(answer.status, text);
}

/** How long to wait before a repetition, in ms; null: what came was an answer. */
function waitBefore(error: unknown, pause_ms: number): number | null {
  const spread = pause_ms * (0.5 + Math.random() / 2);
  if (error instanceof ErrandProblem) {
    const isBusy = error.status === 429 || error.status === 503;
    return isBusy ? Math.max((error.retryAfterSeconds ?? 0) * 1_000, spread) : null;
  }
  if (error instanceof UnexpectedAnswer) return [429, 502, 503, 504].includes(error.status) ? spread : null;
  // fetch tells of connections with a TypeError, and of our own limit with a TimeoutError.
  const isSilence = error instanceof TypeError || (error as Error | null)?.name === 'TimeoutError';
  return isSilence ? spread : null;
}
