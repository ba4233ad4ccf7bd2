// Why this room exists: the ways a job can be executed, each as a caller from outside sees it: a service, and whoever does
// the work, which can be killed and started again.
// Next room: test/system/ways.test.ts, the one suite for all of them.
import type { ChildProcess } from 'node:child_process';
import { createServer, type IncomingMessage, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import { exitOf, spawnTied } from '../children.ts';
import { cloneDatabase, type TestDatabase } from '../postgres.ts';
import { neutralEnvironment, type Service, startService } from '../process.ts';
import { type Told, type Work, work } from './work.ts';

export const wayNames = ['handler', 'pull', 'push'] as const;
export type WayName = (typeof wayNames)[number];

/** A service and whoever does the work of its jobs. */
export class Way {
  readonly name: WayName;
  #database: TestDatabase | undefined;
  #service: Service | undefined;
  #puller: ChildProcess | undefined;
  #target: Server | undefined;
  #observer: Server | undefined;
  #told: Told[] = [];
  #listeners = new Set<() => void>();

  constructor(name: WayName) {
    this.name = name;
  }

  get url(): string {
    return (this.#service as Service).url;
  }

  async start(): Promise<void> {
    this.#database = await cloneDatabase();
    this.#observer = await listening(async (request) => {
      this.#told.push(JSON.parse(await bodyOf(request)));
      for (const listener of this.#listeners) listener();
      return [204, ''];
    });
    if (this.name === 'push') this.#target = await listening(pushed);
    this.#service = await this.#serve('0');
    if (this.name === 'pull') this.#puller = await pulling(this.url);
  }

  /** Kills whatever runs the work of a job with -9, and starts it again. */
  async crash(): Promise<void> {
    if (this.#puller !== undefined) {
      this.#puller.kill('SIGKILL');
      await exitOf(this.#puller);
      this.#puller = await pulling(this.url);
      return;
    }
    const port = String(this.#service?.port);
    await this.#service?.kill9();
    this.#service = await this.#serve(port);
  }

  /** A job of the suite as it is submitted here. */
  job(what: Work['do'], more: object = {}): object {
    const payload: Work = { do: what, numbers: [1, 2, 3], tell: urlOf(this.#observer) };
    const way = this.#target === undefined ? {} : { target: { url: urlOf(this.#target) } };
    return { type: 'work', payload, ...way, ...more };
  }

  /** The first thing told of a job that fits; waits for it. */
  told(what: Told['what'], job_id: string, attempt = 1): Promise<Told> {
    const { promise, resolve, reject } = Promise.withResolvers<Told>();
    const look = () => {
      const found = this.#told.find(
        (one) => one.what === what && one.job_id === job_id && one.attempt === attempt,
      );
      if (found !== undefined) resolve(found);
    };
    const timer = setTimeout(
      () => reject(new Error(`job ${job_id} told no "${what}" of attempt ${attempt}`)),
      20_000,
    );
    this.#listeners.add(look);
    look();
    return promise.finally(() => {
      clearTimeout(timer);
      this.#listeners.delete(look);
    });
  }

  /** How often a start of a job began. */
  starts(job_id: string): number {
    return this.#told.filter((one) => one.what === 'began' && one.job_id === job_id).length;
  }

  async stop(): Promise<void> {
    this.#puller?.kill('SIGKILL');
    await this.#service?.stop();
    for (const server of [this.#target, this.#observer]) {
      server?.closeAllConnections();
      server?.close();
    }
    await this.#database?.drop();
  }

  #serve(port: string): Promise<Service> {
    const env: Record<string, string> = {
      DATABASE_URL: this.#database?.url as string,
      ERRAND_LEASE_SECONDS: '2',
      ERRAND_LOG_LEVEL: 'error',
    };
    if (port !== '0') env.PORT = port;
    if (this.name === 'handler')
      env.ERRAND_HANDLERS_DIR = fileURLToPath(new URL('./handlers', import.meta.url));
    return startService({ env });
  }
}

/** The work of the suite behind a URL: the end of the connection says stop. */
async function pushed(request: IncomingMessage): Promise<[number, string]> {
  const stop = new AbortController();
  request.socket.once('close', () => stop.abort());
  const payload = JSON.parse(await bodyOf(request)) as Work;
  const start = {
    job_id: request.headers['errand-job-id'] as string,
    attempt: Number(request.headers['errand-attempt']),
  };
  try {
    return [200, JSON.stringify(await work(payload, start, stop.signal))];
  } catch {
    return [500, ''];
  }
}

async function listening(
  answer: (request: IncomingMessage) => Promise<readonly [number, string]>,
): Promise<Server> {
  const server = createServer((request, response) => {
    answer(request).then(
      ([status, body]) => response.writeHead(status, { 'content-type': 'application/json' }).end(body),
      () => response.destroy(),
    );
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  return server;
}

function urlOf(server: Server | undefined): string {
  return `http://127.0.0.1:${((server as Server).address() as AddressInfo).port}/`;
}

async function bodyOf(request: IncomingMessage): Promise<string> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks).toString();
}

async function pulling(url: string): Promise<ChildProcess> {
  const script = fileURLToPath(new URL('./puller.ts', import.meta.url));
  const child = spawnTied(process.execPath, [script, url], {
    stdio: ['ignore', 'pipe', 'inherit'],
    env: neutralEnvironment(process.env),
  });
  await new Promise<void>((resolve) => child.stdout?.once('data', () => resolve()));
  return child;
}
