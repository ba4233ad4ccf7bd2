// Why this room exists: behind most paths there is something only where a job is in the right state, so the fuzzer gets ids
// of jobs in every state, of leases that stand and of such that do not, and of whatever the service named meanwhile.
// Next room: fuzz.ts, which asks for them.
import { defineHandler, type Handler, JobError } from '../../src/errand.ts';
import type { Favourites } from './arbitraries.ts';
import { until } from './until.ts';

/** What runs the jobs of some favourite types. */
export const handlers: readonly Handler[] = [
  defineHandler({ type: 'echo', run: (payload) => payload }),
  defineHandler({ type: 'silent', run: () => undefined }),
  defineHandler({
    type: 'broken',
    run: () => {
      throw new JobError('permanent', 'it never works');
    },
  }),
];

export class World {
  readonly url: string;
  readonly favourites: Favourites;
  // Levers are pulled of queues that nothing else goes by.
  readonly #known = new Map<string, string[]>([['queues', ['levered']]]);
  readonly #makers: Readonly<Record<string, readonly (() => Promise<string>)[]>>;

  constructor(url: string) {
    this.url = url;
    this.favourites = {
      type: ['echo', 'silent', 'broken', 'nobody'],
      queue: ['default'],
      // A call for many leases names them in its body; the ids are put in when it is sent.
      id: ['@leases:0', '@leases:1', '@leases:2'],
      // None of them has two slots within a minute.
      // Of the action that was named last.
      phrase: ['@phrases:0'],
      cron: ['0 2 * * *', '@daily', '*/5 * * * *', '0 0 12 L * *'],
      timezone: ['UTC', 'Europe/Madrid', 'Australia/Lord_Howe'],
      url: ['http://127.255.255.254:65535/nobody', `${url}/health/live`],
    };
    this.#makers = {
      jobs: [
        () => this.#job({}),
        () => this.#job({ delay_seconds: 3_600 }),
        async () => (await this.#lease()).job,
        () => this.#ended('complete', { result: [1, 2] }),
        () => this.#ended('complete', { created: '/made' }),
        () => this.#ended('complete', {}),
        () => this.#ended('fail', { class: 'permanent', message: 'it is wrong' }),
        () => this.#ended('fail', { class: 'retryable', retry_after_seconds: 600 }),
        () => this.#ended('release', { delay_seconds: 600 }),
        () => this.#cancelled(),
        () => this.#job({ expires_at: '2001-01-01T00:00:00Z' }),
      ],
      schedules: [
        () => this.#schedule({ every_seconds: 3_600 }),
        () => this.#schedule({ cron: '0 2 * * *', timezone: 'Europe/Madrid' }),
      ],
      queues: [() => this.#queue()],
      'dead-letters': [() => this.#dead(`made-${crypto.randomUUID()}`)],
      actions: [async () => (await this.#action()).id],
      operations: [() => this.#held(), () => this.#held(), () => this.#paused()],
      leases: [
        async () => (await this.#lease()).lease,
        async () => (await this.#lease()).lease,
        async () => {
          const { lease } = await this.#lease();
          await this.#post(`/v1/leases/${lease}/complete`, {});
          return lease;
        },
      ],
    };
  }

  /** An id of a collection: a new one in one of its states, or one that was met. */
  async idIn(collection: string, choice: number): Promise<string> {
    const makers = this.#makers[collection] ?? [];
    const known = this.#known.get(collection) ?? [];
    const make = makers[choice % (makers.length + 1)];
    if (make !== undefined) return make();
    return known[choice % Math.max(known.length, 1)] ?? 'default';
  }

  /** A text with an id in place of each `@collection:choice`. */
  async inhabit(text: string): Promise<string> {
    let inhabited = text;
    for (const [mark, collection = '', choice] of text.matchAll(/@([a-z]+):(\d+)/g)) {
      inhabited = inhabited.replace(mark, await this.idIn(collection, Number(choice)));
    }
    return inhabited;
  }

  /** Remembers what an answer names. */
  learn(headers: Readonly<Record<string, unknown>>, body: string | null): void {
    const named = `${headers.location} ${headers['content-location']} ${body}`;
    for (const [, collection = '', id = ''] of named.matchAll(/\/(?:v1\/)?([a-z-]+)\/([\w.-]{1,200})/g)) {
      const known = this.#known.get(collection) ?? [];
      if (known.length < 200) this.#known.set(collection, [...known, id]);
    }
  }

  async #job(options: object): Promise<string> {
    const { id } = (await this.#post('/v1/jobs', { type: 'made', payload: { a: 1 }, ...options })) as {
      id: string;
    };
    return id;
  }

  async #schedule(cadence: object): Promise<string> {
    const name = `made-${crypto.randomUUID()}`;
    await this.#ask('PUT', `/v1/schedules/${name}`, { ...cadence, job: { type: 'made' } });
    return name;
  }

  async #queue(): Promise<string> {
    const name = `made-${crypto.randomUUID()}`;
    await this.#ask('PUT', `/v1/queues/${name}`, {});
    return name;
  }

  async #lease(queue = `made-${crypto.randomUUID()}`): Promise<{ lease: string; job: string }> {
    // In a queue of its own: requests of the fuzzer lease from all that they can name.
    const job = await this.#job({ queue });
    const ask = { worker: queue, queues: [queue], lease_seconds: 60 };
    const { leases } = (await this.#post('/v1/leases', ask, { prefer: 'wait=1' })) as {
      leases: { id: string }[];
    };
    const lease = leases[0]?.id;
    if (lease === undefined) throw new Error(`nobody leased job ${job}`);
    return { lease, job };
  }

  async #dead(queue: string): Promise<string> {
    return this.#ended('fail', { class: 'permanent', message: 'it is wrong' }, queue);
  }

  /** An action that waits for its phrase. */
  async #action(): Promise<{ id: string; phrase: string }> {
    const target = `made-${crypto.randomUUID()}`;
    await this.#job({ queue: target });
    const wish = { action: 'queue.purge', target };
    const made = (await this.#post('/v1/admin/actions', wish)) as { id: string; confirm_phrase: string };
    this.#known.set('phrases', [made.confirm_phrase]);
    return { id: made.id, phrase: made.confirm_phrase };
  }

  /** An operation that can be undone. */
  async #held(): Promise<string> {
    const { id, phrase } = await this.#action();
    return ((await this.#post(`/v1/admin/actions/${id}/confirm`, { phrase })) as { id: string }).id;
  }

  /** An operation that waits behind its canary. */
  async #paused(): Promise<string> {
    const queue = `made-${crypto.randomUUID()}`;
    await this.#dead(queue);
    await this.#dead(queue);
    const wish = { filter: { queue }, canary: 1 };
    const { id } = (await this.#post('/v1/dead-letters/redrive', wish)) as { id: string };
    await until(async () => {
      const answer = await fetch(`${this.url}/v1/operations/${id}`, { signal: AbortSignal.timeout(10_000) });
      return ((await answer.json()) as { state: string }).state === 'paused';
    });
    return id;
  }

  async #ended(how: string, body: object, queue?: string): Promise<string> {
    const { lease, job } = await this.#lease(queue);
    await this.#post(`/v1/leases/${lease}/${how}`, body);
    return job;
  }

  async #cancelled(): Promise<string> {
    const id = await this.#job({ delay_seconds: 3_600 });
    await this.#post(`/v1/jobs/${id}/cancel`, {});
    return id;
  }

  #post(path: string, body: object, headers: Record<string, string> = {}): Promise<unknown> {
    return this.#ask('POST', path, body, headers);
  }

  async #ask(
    method: string,
    path: string,
    body: object,
    headers: Record<string, string> = {},
  ): Promise<unknown> {
    const answer = await fetch(`${this.url}${path}`, {
      method,
      headers: { 'content-type': 'application/json', ...headers },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(10_000),
    });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${method} ${path} => ${answer.status} ${text}`);
    return JSON.parse(text);
  }
}
