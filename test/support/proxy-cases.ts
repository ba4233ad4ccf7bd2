// Why this room exists: a proxy may drop a header, answer by itself, rewrite, hold back, or forget who is gone. Each case
// asks about one of these through one door and says in a few words what was seen.
// Invariants: what the caller got is compared with what Errand itself says; every call has a limit, and no answer within
// it is also something seen.
// Next room: caller.ts, the calls; reverse-proxies.ts, the doors; test/drills/proxies.ts, what is expected of them.
import assert from 'node:assert/strict';
import { setTimeout as pause } from 'node:timers/promises';
import { type Answer, call, complete, heard, lease, streams, submit, submits, waiters } from './caller.ts';
import { curl } from './curl.ts';
import { until } from './until.ts';

export interface Case {
  name: string;
  /** Whether it counts what the service does, so that nobody else may call meanwhile. */
  alone?: true;
  /** Asks at the port of a door; `service` is the port without a proxy. */
  look(door: number, service: number): Promise<string>;
}

/** The longest wait Errand grants unless told otherwise. */
const wait_cap_seconds = 25;
/** What comes later than this was held back. */
const at_once_ms = 500;
/** How long is looked for what should not come. */
const patience_ms = 1_500;
/** A type with a handler, which returns what it gets. */
const served = 'echo';

/** All cases, by name. */
export const cases: readonly Case[] = [
  { name: 'a caller leaves', alone: true, look: leave },
  { name: 'long poll of the status', alone: true, look: poll },
  { name: 'an event in a stream', alone: true, look: stream },
  curled('Expect: 100-continue'),
  curled('Expect: 200-ok'),
  curled('Expect: 100-continue, 200-ok'),
  curled('Expect: 202-accepted'),
  curled('Expect: 200-fine'),
  curled('Expect: 100-continue, 200-fine'),
  curled('Errand-Expect: 200-ok'),
  curled('Errand-Expect: 200-fine'),
  demanded('Expect', '200-ok'),
  demanded('Expect', '100-continue, 200-ok'),
  demanded('Errand-Expect', '200-ok'),
  wished('wait=2', 200, 'soft;wait=2'),
  wished('respond-async', 202, 'async;expect=none'),
  unchanged('202', (port) => submit(port, unserved())),
  unchanged('204', (port) => submit(port, served, { 'errand-expect': '204-no-content' })),
  unchanged('303', async (port, service) => call(port, { path: `/v1/jobs/${await done(service)}/status` })),
  unchanged('417 up front', (port) => submit(port, served, { 'errand-expect': '200-fine' })),
  unchanged('417 after a wait', (port) =>
    submit(port, unserved(), { 'errand-expect': '200-ok', prefer: 'wait=1' }),
  ),
  { name: `a wait of ${wait_cap_seconds} s`, look: longest },
];

/** Does Errand notice that a caller with a demand is gone, and does the job go on? */
async function leave(door: number, service: number): Promise<string> {
  const caller = new AbortController();
  const key = `left-${door}`;
  const headers = { 'errand-expect': '200-ok', prefer: 'wait=4', 'idempotency-key': key };
  const type = unserved();
  const left = submit(door, type, headers, caller.signal);
  await until(async () => (await waiters(service)) === 1, { what: 'the caller waits' });
  caller.abort();
  await left;
  const none = async () => (await waiters(service)) === 0;
  const noticed = await within(patience_ms, none);
  const state = async () => {
    const again = await submit(service, type, { 'idempotency-key': key });
    return (JSON.parse(again?.body ?? '{}') as { state?: string }).state;
  };
  // Unnoticed, the demand is withdrawn when its time is over.
  if (!noticed) await within(5_000, async () => (await state()) !== 'queued');
  return `${noticed ? 'noticed' : 'not noticed'}, the job is ${await state()}`;
}

/** Is a poll that waits answered when the job ends? */
async function poll(door: number, service: number): Promise<string> {
  const type = unserved();
  await submit(service, type);
  const { id, job } = await lease(service, type);
  const polled = call(door, { path: `/v1/jobs/${job.id}/status`, headers: { prefer: 'wait=10' } });
  await until(async () => (await waiters(service)) === 1, { what: 'the poll waits' });
  await complete(service, id);
  const ended = performance.now();
  const answer = await polled;
  return answer?.status === 303 ? `303 ${speed(performance.now() - ended)}` : told(answer);
}

/** How long after its writing does an event arrive, while the stream goes on? With the end of it everything would. */
async function stream(door: number, service: number): Promise<string> {
  const type = unserved();
  const accepted = await submit(service, type);
  const path = `${accepted?.headers['content-location']}/events`;
  const readers = new AbortController();
  const hear = (port: number) => heard(port, path, '"state":"running"', readers.signal);
  const arrivals = [hear(service), hear(door)] as const;
  await until(async () => (await streams(service)) === 2, { what: 'both streams are open' });
  const { id } = await lease(service, type);
  const written = await arrivals[0];
  const arrived = await Promise.race([arrivals[1], pause(patience_ms, null)]);
  readers.abort();
  await complete(service, id);
  await until(async () => (await streams(service)) === 0, { what: 'no stream is open' });
  assert.ok(written !== null, 'Errand itself sent no event');
  return arrived === null ? 'held back' : speed(arrived - written);
}

function speed(ms: number): string {
  return ms <= at_once_ms ? `within ${at_once_ms} ms` : 'later';
}

/** Is the longest wait there is let through? */
async function longest(door: number, service: number): Promise<string> {
  const accepted = await submit(service, unserved());
  const began = performance.now();
  const path = accepted?.headers.location as string;
  const answer = await call(door, {
    path,
    headers: { prefer: `wait=${wait_cap_seconds}` },
    limit_ms: (wait_cap_seconds + 5) * 1_000,
  });
  const seconds = Math.round((performance.now() - began) / 1_000);
  return answer?.status === 200 ? `answered after ${seconds} s` : `${told(answer)} after ${seconds} s`;
}

/** What curl sees of a demand, how often it sent it, and how often that arrived. */
function curled(header: string): Case {
  return {
    name: `curl, ${header}`,
    alone: true,
    async look(door, service) {
      const before = await submits(service);
      const url = `http://127.0.0.1:${door}/v1/jobs`;
      const json = ['-H', 'Content-Type: application/json', '--data-binary', '@-'];
      const body = JSON.stringify({ type: served, payload: 1 });
      const { status, sent } = await curl(url, [...json, '--expect100-timeout', '0.2', '-H', header], body);
      return `${status}, ${sent} sent, ${(await submits(service)) - before} arrived`;
    },
  };
}

/** Does a demand arrive? */
function demanded(name: 'Expect' | 'Errand-Expect', value: string): Case {
  return {
    name: `${name}: ${value}`,
    async look(door) {
      const answer = await submit(door, served, { [name]: value });
      if (understood(answer, 200, 'sync;expect="200-ok";wait=10')) return 'arrives';
      if (understood(answer, 202, 'async;expect=none')) return 'stripped';
      return told(answer);
    },
  };
}

/** Does a wish arrive, and does what was made of it come back? */
function wished(value: string, status: number, mode: string): Case {
  return {
    name: `Prefer: ${value}`,
    async look(door) {
      const answer = await submit(door, served, { prefer: value });
      const arrived = understood(answer, status, mode) && answer?.headers['preference-applied'] === value;
      return arrived ? 'arrives' : told(answer);
    },
  };
}

/** Does an answer come through as it was sent? `ask` is asked at the door and at the service. */
function unchanged(name: string, ask: (port: number, service: number) => Promise<Answer | null>): Case {
  return {
    name: `${name} comes through`,
    async look(door, service) {
      const [through, straight] = await Promise.all([ask(door, service), ask(service, service)]);
      assert.equal(straight?.status, Number(name.slice(0, 3)), `Errand itself: ${told(straight)}`);
      if (through === null) return told(through);
      const [got, sent] = [essence(through), essence(straight)];
      const differing = Object.keys({ ...sent, ...got }).filter((part) => got[part] !== sent[part]);
      return differing.length === 0 ? 'unchanged' : `changed: ${differing.join(', ')}`;
    },
  };
}

/** Everything of an answer but what belongs to the connection, to the proxy, or to this one job. */
function essence({ status, headers, body }: Answer): Record<string, string> {
  const others = ['connection', 'keep-alive', 'transfer-encoding', 'content-length', 'date', 'server', 'via'];
  const kept = Object.entries(headers).filter(([name]) => ![...others, 'errand-job-id'].includes(name));
  const all = { status, body, ...Object.fromEntries(kept) };
  return Object.fromEntries(
    Object.entries(all).map(([part, value]) => [
      part,
      part === 'retry-after'
        ? String(/^\d+$/.test(String(value)))
        : String(value)
            .replaceAll(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, '{time}')
            .replaceAll(/"waited_ms":\d+/g, '"waited_ms":{ms}')
            .replaceAll(/parcel-\d+/g, '{type}')
            .replaceAll(/(\/v1\/jobs\/|"id":"|job )\d+/g, '$1{id}'),
    ]),
  );
}

function within(timeoutMs: number, fact: () => Promise<boolean>): Promise<boolean> {
  return until(fact, { timeoutMs }).then(
    () => true,
    () => false,
  );
}

function understood(answer: Answer | null, status: number, mode: string): boolean {
  return answer?.status === status && answer.headers['errand-mode'] === mode;
}

/** An answer in a few words; a proxy's own refusal has neither a mode nor a problem document. */
function told(answer: Answer | null): string {
  if (answer === null) return 'no answer';
  const { 'errand-mode': mode, 'content-type': type = 'no content' } = answer.headers;
  if (mode !== undefined) return `${answer.status} ${mode}`;
  return type.startsWith('application/problem+json')
    ? `${answer.status} ${type}`
    : `${answer.status} by the proxy`;
}

let made = 0;

/** A type of its own, which only the pull worker here asks for. */
function unserved(): string {
  made += 1;
  return `parcel-${made}`;
}

/** The id of a job that has succeeded with a result. */
async function done(service: number): Promise<string> {
  const answer = await submit(service, served, { 'errand-expect': '200-ok' });
  return answer?.headers['errand-job-id'] as string;
}
