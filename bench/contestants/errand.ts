// Errand as its users run it: the whole program of src/compose.ts, jobs taken in by its own submit verb and run by a
// handler in the process.
// Next room: graphile.ts, pg-boss.ts and bullmq.ts, the peers.
import type { Submission } from '../../src/actions/submit.ts';
import { compose } from '../../src/compose.ts';
import { readConfig } from '../../src/config.ts';
import { defineHandler } from '../../src/errand.ts';
import { migrate } from '../../src/store/migrate.ts';
import type { Contestant } from '../contestant.ts';
import { lookAt } from './look.ts';

const calls_in_flight = 1_000;

export const contestant: Contestant = {
  async prepare(url) {
    await migrate(url);
  },

  async fill(url, count, payload) {
    const { enqueue, close } = await this.produce(url, payload);
    // The first job of a type makes its lane: once in the life of a database, so not a part of the figure.
    await enqueue();
    let left = count - 1;
    const caller = async () => {
      while (left-- > 0) await enqueue();
    };
    const began = performance.now();
    await Promise.all(Array.from({ length: calls_in_flight }, caller));
    const seconds = (performance.now() - began) / 1_000;
    await close();
    return seconds;
  },

  async produce(url, payload) {
    const errand = await start(url, { ERRAND_ROLES: 'api' });
    const asked = submission(JSON.stringify(payload));
    return {
      async enqueue() {
        const { id } = await errand.actions.submit(asked);
        return id;
      },
      close: () => errand.drain(true),
    };
  },

  async work(url, concurrency, onRun) {
    const noop = defineHandler({ type: 'noop', run: (_, { job_id }) => onRun(job_id) });
    const env = { ERRAND_ROLES: 'worker', ERRAND_HANDLER_CONCURRENCY: String(concurrency) };
    const errand = await start(url, env, [noop]);
    return { stop: () => errand.drain(true) };
  },

  look: (url) =>
    lookAt(url, {
      empty: `select not exists (select from errand.block) and not exists (select from errand.lease)
        and not exists (select from errand.later) "empty"`,
      finished: `select count(*)::int finished from errand.outcome where status = 'succeeded'`,
    }),
};

/** A no-op job with nothing that it does not need. */
export function submission(payload: string): Submission {
  return {
    queue: 'default',
    type: 'noop',
    priority: 5,
    max_attempts: 8,
    timeout_seconds: 60,
    payload,
    run_at: null,
    delay_ms: null,
    expires_at: null,
    backoff: null,
    tags: null,
    options: null,
    idempotency: null,
  };
}

/** The whole program, in this process. */
export function start(
  url: string,
  env: Record<string, string>,
  handlers: ReturnType<typeof defineHandler>[] = [],
) {
  const config = readConfig({ DATABASE_URL: url, PORT: '0', ERRAND_LOG_LEVEL: 'warn', ...env });
  return compose(config, { migrate: false, handlers, log: (line) => process.stderr.write(line) });
}
