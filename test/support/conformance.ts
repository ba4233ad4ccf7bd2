// Why this room exists: "a worker in any language" is a promise about programs, so a program is what is held to it: black
// box, by what it does with jobs and what it sends.
// Invariant: nothing is known of a program but its command line and the settings of docs/guides/pull-workers.md.
// Next room: pull-programs.ts, the programs; bench.ts, how one of them is run and looked at.
import assert from 'node:assert/strict';
import { type Bench, during, end_ms, isAlive } from './bench.ts';
import { startService } from './process.ts';
import { until } from './until.ts';

export interface Case {
  name: string;
  /** It takes services of its own. */
  restarts?: true;
  /** Throws where the program does not keep it. */
  prove(bench: Bench): Promise<void>;
}

const short_lease = { LEASE_SECONDS: '2' };
const at_once = { strategy: 'fixed', base_seconds: 0.1, jitter: 'none' };

export const cases: readonly Case[] = [
  {
    name: 'without a command it counts words, and refuses what is no text for good',
    prove: (bench) =>
      during(bench, { isPlain: true }, async (worker) => {
        const text = await worker.submit('"to be\\nor \\"not\\" \\\\ to be"');
        const wrong = await worker.submit('[1,2]');
        assert.equal((await worker.end(text)).state, 'succeeded');
        assert.equal((await worker.result(text)).trim(), '7');
        const { state, attempt, error } = await worker.end(wrong);
        assert.deepEqual([state, attempt, error?.class, error?.source], ['dead', 1, 'permanent', 'worker']);
      }),
  },
  {
    name: 'any JSON comes through to the command and back: no number is rounded, no text is changed',
    prove: (bench) =>
      during(bench, {}, async (worker) => {
        const payloads = Array.from(
          { length: 2 * shapes.length },
          (_, n) => shapes[n % shapes.length]?.(n) ?? '',
        );
        const ids = await worker.submitAll(payloads);
        for (const [n, id] of ids.entries()) {
          const { state, error } = await worker.end(id);
          const payload = payloads[n] as string;
          assert.equal(state, 'succeeded', `${payload.slice(0, 200)}: ${JSON.stringify(error)}`);
          assert.deepEqual(exact(await worker.result(id)), exact(payload));
        }
      }),
  },
  {
    name: 'a job that takes longer than its lease is kept by heartbeats and runs once',
    prove: (bench) =>
      during(bench, { env: short_lease }, async (worker) => {
        const { state, epoch } = await worker.end(await worker.submit('"sleep 3.5"'));
        assert.deepEqual([state, epoch, worker.starts('"sleep 3.5"').length], ['succeeded', 1, 1]);
      }),
  },
  {
    name: 'a failure is told with its message and tried again; exit code 65 and what is no JSON end the job',
    prove: (bench) =>
      during(bench, {}, async (worker) => {
        const flaky = await worker.submit('"flaky"', { backoff: at_once });
        const bad = await worker.submit('"bad"');
        const prose = await worker.submit('"prose"');
        const { state, attempt, attempts } = await worker.end(flaky);
        assert.deepEqual([state, attempt, worker.starts('"flaky"').length], ['succeeded', 2, 2]);
        const first = attempts.at(-1);
        assert.deepEqual([first?.class, first?.source], ['retryable', 'worker']);
        assert.match(first?.detail ?? '', /^exit code 1: out of luck/);
        for (const id of [bad, prose]) {
          const { state, attempt, error } = await worker.end(id);
          assert.deepEqual([state, attempt, error?.class], ['dead', 1, 'permanent']);
        }
      }),
  },
  {
    name: 'a cancel reaches the work of a job that runs, and ends it',
    prove: (bench) =>
      during(bench, { env: short_lease }, async (worker) => {
        const job = await worker.submit('"sleep 60"');
        const { pid } = await worker.start('"sleep 60"');
        assert.equal(await worker.cancel(job), 202);
        assert.equal((await worker.end(job)).state, 'cancelled');
        await until(() => !isAlive(pid), { what: 'the command is gone', timeoutMs: end_ms });
      }),
  },
  {
    name: 'a completion that comes too late is refused, dropped, and the next job taken',
    prove: (bench) =>
      during(bench, {}, async (worker) => {
        // The first heartbeat of a lease of 30 s comes after the work, so the completion is what is refused.
        const late = await worker.submit('"sleep 4"', { timeout_seconds: 1, max_attempts: 1 });
        await worker.start('"sleep 4"');
        const next = await worker.submit('"next"');
        assert.equal((await worker.end(late)).error?.class, 'timeout');
        const completions = () => worker.traffic.calls.filter(({ path }) => path.endsWith('/complete'));
        assert.equal((await worker.end(next)).state, 'succeeded');
        const isRefused = () => completions().some(({ status }) => status === 409);
        await until(isRefused, { what: 'the late completion is refused', timeoutMs: end_ms });
        assert.equal(completions().filter(({ status }) => status === 409).length, 1);
      }),
  },
  {
    name: 'a worker that was frozen for longer than its lease drops what it held and goes on',
    prove: (bench) =>
      during(bench, { env: short_lease }, async (worker) => {
        const job = await worker.submit('"sleep 1"');
        await worker.start('"sleep 1"');
        const thaw = await worker.freeze();
        // A call that waits was not frozen: it may be handed the second start while the worker sleeps.
        const isLost = async () => (await worker.look(job)).attempts.at(-1)?.outcome === 'lost';
        await until(isLost, { what: 'the lease runs out', timeoutMs: end_ms });
        thaw();
        const { state, epoch } = await worker.end(job);
        assert.ok(state === 'succeeded' && epoch > 1, `${state}, epoch ${epoch}`);
        assert.notEqual((await worker.result(job)).trim(), '1', 'what the first start brought is dropped');
        assert.equal((await worker.end(await worker.submit('"next"'))).state, 'succeeded');
      }),
  },
  {
    name: 'an answer that got lost is asked for again: a completion counts once, a lease costs an attempt',
    prove: (bench) =>
      during(bench, { env: short_lease, isRefused: true }, async (worker) => {
        const { traffic } = worker;
        traffic.lose('/v1/leases', 'half');
        traffic.lose('/complete', 'all');
        const job = await worker.submit('"any"');
        traffic.refuse(0);
        const { state, attempts } = await worker.end(job);
        const outcomes = attempts.map(({ outcome }) => outcome);
        assert.deepEqual([state, outcomes], ['succeeded', ['succeeded', 'lost']]);
        assert.equal(worker.starts('"any"').length, 1);
        const completions = () => traffic.calls.filter(({ path }) => path.endsWith('/complete'));
        await until(() => completions().length === 2, {
          what: 'the completion is repeated',
          timeoutMs: end_ms,
        });
        assert.deepEqual(new Set(completions().map(({ status }) => status)), new Set([200]));
        assert.equal((await worker.end(await worker.submit('"next"'))).state, 'succeeded');
      }),
  },
  {
    name: 'kill -9 and a new start of the service are nothing to it',
    restarts: true,
    async prove(bench) {
      const env = { DATABASE_URL: bench.databaseUrl };
      let service = await startService({ env });
      try {
        await during({ ...bench, service }, { env: { ERRAND_URL: service.url } }, async (worker) => {
          const held = await worker.submit('"sleep 2"');
          await worker.start('"sleep 2"');
          await service.kill9();
          service = await startService({ env: { ...env, PORT: String(service.port) } });
          // A lease is a row in the database: it outlives the service that handed it out.
          const { state, epoch } = await worker.end(held);
          assert.deepEqual([state, epoch], ['succeeded', 1]);
          assert.equal((await worker.end(await worker.submit('"next"'))).state, 'succeeded');
        });
      } finally {
        await service.kill9();
      }
    },
  },
  {
    name: 'SIGTERM ends the work and gives its job back, and the attempt does not count',
    prove: (bench) =>
      // With its one slot taken it asks for nothing: no call of its own that waits can be handed the job again.
      during(bench, { env: { SLOTS: '1' } }, async (worker) => {
        const job = await worker.submit('"sleep 60"');
        const { pid } = await worker.start('"sleep 60"');
        await worker.leave();
        const { state, attempt } = await worker.look(job);
        assert.deepEqual([state, attempt], ['queued', 0]);
        await until(() => !isAlive(pid), { what: 'the command is gone', timeoutMs: end_ms });
        assert.equal(await worker.cancel(job), 200);
      }),
  },
  {
    name: 'SIGTERM while it waits ends the call that waits, so that no job goes to nobody',
    prove: (bench) =>
      during(bench, {}, async (worker) => {
        await until(() => worker.traffic.came > 0, { what: 'it asks for jobs', timeoutMs: end_ms });
        await worker.leave();
        const { id, executed } = await worker.demand('"never"');
        if (executed === false) return;
        // The service had not seen yet that the worker was gone: then the job is given back at once.
        const isBack = async () => (await worker.look(id)).state === 'queued';
        await until(isBack, { what: 'the job waits again', timeoutMs: 5_000 });
        assert.equal((await worker.look(id)).attempt, 0);
      }),
  },
  {
    name: 'it is quiet while there is nothing to do, and while the service says that it is busy',
    prove: (bench) =>
      during(bench, { isRefused: true }, async (worker) => {
        const { traffic } = worker;
        await until(() => traffic.came > 0, { what: 'it asks for jobs', timeoutMs: end_ms });
        const first = await worker.submit('"first"', { delay_seconds: 2 });
        await until(async () => (await worker.look(first)).state === 'queued', {
          what: 'the job is due',
          timeoutMs: end_ms,
        });
        assert.ok(traffic.came <= 15, `${traffic.came} calls in 2 s to a service that is busy`);
        traffic.refuse(0);
        assert.equal((await worker.end(first)).state, 'succeeded');
        const before = traffic.came;
        const second = await worker.submit('"second"', { delay_seconds: 2 });
        assert.equal((await worker.end(second)).state, 'succeeded');
        assert.ok(traffic.came - before <= 15, `${traffic.came - before} calls in 2 s for one job`);
      }),
  },
];

/** Payloads by number: what JSON allows and what careless programs change. */
const shapes: ((n: number) => string)[] = [
  (n) => String(n),
  (n) => `9007199254740993${n}`,
  (n) => `[null,true,false,-123456789012345678901234567890,{"n":${n}}]`,
  (n) => `{"payload":{"payload":[${n}],"id":"lse_no","leases":[{"payload":""}]}}`,
  (n) => `"}}]} \\"payload\\":\\"${n}\\" \\\\"`,
  (n) => `"Gr\u00fc\u00dfe \u65e5\u672c \ud83e\uddab \\ud83e\\uddab \\u0001 \\t \\/ ${n}"`,
  (n) => `{"<&>":"$(exit ${n}) \`exit\` %s %b ' \u2028 \\n","a b":[[],{},""," "],"":1.5}`,
  (n) => ` {\n  "blanks" : [ ${n} ,\t2 ]\n} `,
  (n) => `${'['.repeat(40)}${n}${']'.repeat(40)}`,
  (n) => (n < 10 ? `"${'long '.repeat(40_000)}"` : '""'),
];

/** Parses JSON so that two texts are equal when they say the same, whole numbers of any size included. */
function exact(text: string): unknown {
  return JSON.parse(text, (_name, value: unknown, context?: { source?: string }) =>
    typeof value === 'number' && /^-?\d+$/.test(context?.source ?? '')
      ? BigInt(context?.source as string)
      : value,
  );
}
