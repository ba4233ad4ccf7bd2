// Why this room exists: a pull worker, in whatever language, is started, given jobs and looked at from outside.
// Invariants: every worker has a type of its own, so many run beside each other; each leaves at SIGTERM with exit code 0
// within 8 s, or the case has failed; none is left behind, whatever happens.
// Next room: conformance.ts, what is asked of it.
import assert from 'node:assert/strict';
import { type ChildProcess, execFile } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { exitOf, exitWithin, spawnTied } from './children.ts';
import { neutralEnvironment, type Service } from './process.ts';
import { type Traffic, watchTraffic } from './traffic.ts';
import { until } from './until.ts';

/** A pull worker: its settings are environment variables, and words after its own are a command that does the work. */
export interface Program {
  name: string;
  words: readonly string[];
}

export interface Bench {
  program: Program;
  service: Service;
  /** The database of the service. */
  databaseUrl: string;
  /** An empty folder. */
  folder: string;
}

interface Setting {
  env?: Record<string, string>;
  /** Without a command. */
  isPlain?: boolean;
  /** Its calls are refused until `traffic.refuse(0)`. */
  isRefused?: boolean;
}

interface JobError {
  class: string;
  source: string;
  detail: string;
}

interface JobRecord {
  state: string;
  terminal: boolean;
  attempt: number;
  epoch: number;
  error: JobError | null;
  /** Each start, the newest first. */
  attempts: (JobError & { epoch: number; outcome: string })[];
}

const WORK = fileURLToPath(new URL('conformance.sh', import.meta.url));
/** Limit of an end at SIGTERM. */
const leave_ms = 8_000;
/** Limit of whatever else is waited for. */
export const end_ms = 25_000;

/** Starts the program, lets `prove` work with it, and has it leave. */
export async function during(
  bench: Bench,
  setting: Setting,
  prove: (worker: Worker) => Promise<void>,
): Promise<void> {
  const traffic = await watchTraffic(bench.service.url);
  if (setting.isRefused) traffic.refuse(Number.POSITIVE_INFINITY);
  const worker = new Worker(bench, setting, traffic);
  try {
    await prove(worker);
    await worker.leave();
  } catch (error) {
    throw new Error(
      `${(error as Error).message}\n${bench.program.name} printed:\n${worker.output.slice(-4_000)}`,
      {
        cause: error,
      },
    );
  } finally {
    await worker.end9();
    await traffic.stop();
  }
}

/** A program at work, and the jobs of its type. */
export class Worker {
  readonly traffic: Traffic;
  output = '';
  readonly #service: Service;
  readonly #type = `work-${randomUUID()}`;
  readonly #journal: string;
  readonly #child: ChildProcess;

  constructor({ program, service, folder }: Bench, { env = {}, isPlain = false }: Setting, traffic: Traffic) {
    this.#service = service;
    this.traffic = traffic;
    this.#journal = join(folder, this.#type);
    const command = isPlain ? [] : ['bash', WORK, this.#journal, process.execPath];
    const [first = '', ...rest] = [...program.words, ...command];
    this.#child = spawnTied(first, rest, {
      stdio: ['ignore', 'pipe', 'pipe'],
      env: {
        ...neutralEnvironment(process.env),
        ...{ ERRAND_URL: traffic.url, TYPE: this.#type, no_proxy: '127.0.0.1' },
        ...env,
      },
    });
    for (const stream of [this.#child.stdout, this.#child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.output += text;
      });
    }
  }

  /** Answers with the id of the job. */
  async submit(payload: string, options: object = {}): Promise<string> {
    const rest = JSON.stringify({ type: this.#type, ...options }).slice(0, -1);
    return (await this.#post('/v1/jobs', `${rest},"payload":${payload}}`)).id;
  }

  async submitAll(payloads: readonly string[]): Promise<string[]> {
    const jobs = payloads.map((payload) => `{"type":"${this.#type}","payload":${payload}}`);
    const answer = await this.#post('/v1/jobs/batch', `{"jobs":[${jobs.join(',')}]}`);
    return answer.jobs.map(({ id }: { id: string }) => id);
  }

  /** Demands the outcome of a job within a second, which nobody can give; answers with its id and whether it was started. */
  async demand(payload: string): Promise<{ id: string; executed: unknown }> {
    const headers = { 'content-type': 'application/json', 'errand-expect': '200-ok', prefer: 'wait=1' };
    const body = `{"type":"${this.#type}","payload":${payload}}`;
    const answer = await this.#fetch('/v1/jobs', { method: 'POST', headers, body });
    assert.equal(answer.status, 417);
    const { job, executed } = (await answer.json()) as { job: { id: string }; executed: unknown };
    return { id: job.id, executed };
  }

  async cancel(id: string): Promise<number> {
    const answer = await this.#fetch(`/v1/jobs/${id}/cancel`, { method: 'POST' });
    await answer.body?.cancel();
    return answer.status;
  }

  async look(id: string): Promise<JobRecord> {
    const answer = await this.#fetch(`/v1/jobs/${id}?include=attempts`);
    assert.equal(answer.status, 200);
    return (await answer.json()) as JobRecord;
  }

  /** The record of the job once it has ended. */
  async end(id: string): Promise<JobRecord> {
    const hasEnded = async () => {
      const prefer = { prefer: 'wait=20' };
      const answer = await this.#fetch(`/v1/jobs/${id}/status`, { headers: prefer, redirect: 'manual' });
      return ((await answer.json()) as JobRecord).terminal;
    };
    await until(hasEnded, { what: `job ${id} has ended`, timeoutMs: end_ms, everyMs: 50 });
    return this.look(id);
  }

  async result(id: string): Promise<string> {
    return (await this.#fetch(`/v1/jobs/${id}/result`)).text();
  }

  /** The processes that were started for a payload. */
  starts(payload: string): { pid: number }[] {
    const lines = existsSync(this.#journal) ? readFileSync(this.#journal, 'utf8').split('\n') : [];
    return lines
      .filter((line) => line.endsWith(` ${payload}`))
      .map((line) => ({ pid: Number.parseInt(line, 10) }));
  }

  /** The first start for a payload, once it is there. */
  start(payload: string): Promise<{ pid: number }> {
    return until(() => this.starts(payload)[0], { what: `${payload} is started`, timeoutMs: end_ms });
  }

  /** Stops the program and what it has started as a machine that pauses would; answers with what lets them go on. */
  async freeze(): Promise<() => void> {
    // Twice: what was being started while the first look was taken.
    for (const _ of [1, 2]) for (const pid of await this.#family()) signal(pid, 'SIGSTOP');
    const family = await this.#family();
    return () => {
      for (const pid of family) signal(pid, 'SIGCONT');
    };
  }

  async leave(): Promise<void> {
    this.#child.kill('SIGTERM');
    assert.deepEqual(await exitWithin(this.#child, leave_ms), { gone: true, code: 0 }, 'its end at SIGTERM');
  }

  async end9(): Promise<void> {
    if (this.#child.exitCode !== null || this.#child.signalCode !== null) return;
    for (const pid of await this.#family()) signal(pid, 'SIGKILL');
    await exitOf(this.#child);
  }

  /** The program and all that descends from it. */
  async #family(): Promise<number[]> {
    const { stdout } = await promisify(execFile)('ps', ['-A', '-o', 'pid=,ppid=']);
    const pairs = stdout.split('\n').map((line) => line.trim().split(/\s+/).map(Number));
    const family = [this.#child.pid as number];
    for (const elder of family) {
      for (const [pid, parent] of pairs) if (parent === elder && pid !== undefined) family.push(pid);
    }
    return family;
  }

  // biome-ignore lint/suspicious/noExplicitAny: the caller knows the shape of the answer it asked for
  async #post(path: string, body: string): Promise<any> {
    const headers = { 'content-type': 'application/json' };
    const answer = await this.#fetch(path, { method: 'POST', headers, body });
    const text = await answer.text();
    assert.equal(answer.status, 202, text);
    return JSON.parse(text);
  }

  #fetch(path: string, init: RequestInit = {}): Promise<Response> {
    return fetch(this.#service.url + path, { ...init, signal: AbortSignal.timeout(end_ms) });
  }
}

export function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

function signal(pid: number, name: NodeJS.Signals): void {
  try {
    process.kill(pid, name);
  } catch {
    // It has ended by itself.
  }
}
