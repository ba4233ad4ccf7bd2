// Drill: a real errand serve behind nginx, HAProxy and Caddy, with the files of examples/proxies and as they come. What
// each of them does to a demand, a wish, an answer, a wait and a caller who leaves is compared with the table below, on
// which docs/guides/proxies.md stands.
// Next room: test/support/proxy-cases.ts, the questions; test/support/reverse-proxies.ts, the proxies.
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { findProgram } from '../support/children.ts';
import { versionOf } from '../support/debian.ts';
import { cloneDatabase } from '../support/postgres.ts';
import { startService } from '../support/process.ts';
import { type Case, cases } from '../support/proxy-cases.ts';
import {
  type Door,
  findProxies,
  type Programs,
  startProxies,
  versionsOf,
} from '../support/reverse-proxies.ts';
import type { Drill, Verdict } from './drill.ts';

type Row = Partial<Record<Door, string>>;

/** The same through every proxy that may stand before Errand. */
function all(seen: string): Row {
  return {
    'nginx as it comes': seen,
    'nginx.conf': seen,
    'HAProxy as it comes': seen,
    'haproxy.cfg': seen,
    Caddyfile: seen,
  };
}

const unanswered = { 'nginx that passes Expect on': 'no answer' };

/** What is to be seen, by case and door; a door without an entry is not asked. */
const expected: Record<string, Row> = {
  'Expect: 200-ok': {
    ...all('arrives'),
    'nginx as it comes': 'stripped',
    Caddyfile: '417 by the proxy',
  },
  'Expect: 100-continue, 200-ok': { ...all('arrives'), 'nginx as it comes': 'stripped', ...unanswered },
  'Errand-Expect: 200-ok': all('arrives'),
  'Prefer: wait=2': all('arrives'),
  'Prefer: respond-async': all('arrives'),
  '202 comes through': all('unchanged'),
  '204 comes through': all('unchanged'),
  '303 comes through': all('unchanged'),
  '417 up front comes through': all('unchanged'),
  '417 after a wait comes through': all('unchanged'),
  'long poll of the status': all('303 within 500 ms'),
  'an event in a stream': {
    ...all('within 500 ms'),
    'nginx that ignores X-Accel-Buffering': 'held back',
  },
  'a wait of 25 s': all('answered after 25 s'),
  'a caller leaves': {
    ...all('noticed, the job is queued'),
    'HAProxy as it comes': 'not noticed, the job is cancelled',
  },
  'curl, Expect: 100-continue': all('202, 1 sent, 1 arrived'),
  'curl, Expect: 200-ok': {
    ...all('200, 1 sent, 1 arrived'),
    'nginx as it comes': '202, 1 sent, 1 arrived',
    Caddyfile: '417, 1 sent, 0 arrived',
  },
  'curl, Expect: 100-continue, 200-ok': {
    ...all('200, 1 sent, 1 arrived'),
    'nginx as it comes': '202, 1 sent, 1 arrived',
  },
  'curl, Expect: 202-accepted': {
    ...all('202, 1 sent, 1 arrived'),
    Caddyfile: '417, 1 sent, 0 arrived',
  },
  'curl, Expect: 200-fine': {
    ...all('417, 1 sent, 1 arrived'),
    'nginx as it comes': '202, 1 sent, 1 arrived',
    Caddyfile: '417, 1 sent, 0 arrived',
  },
  'curl, Expect: 100-continue, 200-fine': {
    ...all('417, 1 sent, 1 arrived'),
    'nginx as it comes': '202, 1 sent, 1 arrived',
    // HAProxy keeps the connection that Errand closes, and curl's repeat is read as the body of the first request.
    'HAProxy as it comes': '400, 2 sent, 1 arrived',
  },
  'curl, Errand-Expect: 200-ok': all('200, 1 sent, 1 arrived'),
  'curl, Errand-Expect: 200-fine': all('417, 1 sent, 1 arrived'),
};

/** Without these rows nothing of a proxy was met. */
const rare = ['stripped', '417 by the proxy', 'no answer', 'not noticed, the job is cancelled', 'held back'];

export const drill: Drill = {
  name: 'proxies',
  proves:
    'behind nginx, HAProxy and Caddy a caller gets what Errand sent, or can tell from the answer what was lost on the way',
  profiles: ['short', 'long'],
  limit_minutes: 10,
  async run({ folder, say }): Promise<Verdict> {
    if (findProgram('curl') === null) return { result: 'NOT RUN', reason: 'curl is not installed' };
    let programs: Programs;
    try {
      programs = await findProxies();
    } catch (error) {
      return { result: 'NOT RUN', reason: (error as Error).message };
    }
    const database = await cloneDatabase();
    const handlers = fileURLToPath(new URL('../../examples/handlers', import.meta.url));
    const service = await startService({
      env: { DATABASE_URL: database.url, ERRAND_HANDLERS_DIR: handlers, ERRAND_LOG_LEVEL: 'error' },
    });
    try {
      const proxies = await startProxies(programs, service.port, join(folder, 'proxies'));
      try {
        const seen = await lookThrough(proxies.doors, service.port, say);
        return { ...judge(seen), versions: await allVersions(programs) };
      } finally {
        await proxies.stop();
      }
    } finally {
      await service.kill9();
      await database.drop();
    }
  },
};

/** What was seen, by case and door. */
type Seen = Map<string, string>;

const row = (name: string, door: string) => `${door}, ${name}`;

/** Asks every case at its doors: those that count alone and in turn, then the doors side by side. */
async function lookThrough(
  doors: Record<Door, number>,
  service: number,
  say: (line: string) => void,
): Promise<Seen> {
  const seen: Seen = new Map();
  const ask = async (door: Door, { name, look }: Case) => {
    if (expected[name]?.[door] === undefined) return;
    const found = await look(doors[door], service).catch((error: Error) => `nothing: ${error.message}`);
    seen.set(row(name, door), found);
  };
  const names = Object.keys(doors) as Door[];
  for (const one of cases.filter(({ alone }) => alone)) for (const door of names) await ask(door, one);
  say('the cases that count are through; the others run side by side');
  const others = cases.filter(({ alone }) => !alone);
  await Promise.all(names.map((door) => Promise.all(others.map((one) => ask(door, one)))));
  return seen;
}

function judge(seen: Seen): Verdict {
  const figures: Record<string, Record<string, string>> = {};
  const wrong: string[] = [];
  for (const [name, doors] of Object.entries(expected)) {
    for (const [door, wanted] of Object.entries(doors)) {
      const found = seen.get(row(name, door)) ?? 'nobody asked';
      figures[door] = { ...figures[door], [name]: found };
      if (found !== wanted) wrong.push(`${row(name, door)}: ${found}, not ${wanted}`);
    }
  }
  const missing = rare.filter((what) => ![...seen.values()].includes(what));
  if (missing.length > 0) {
    const reason = [`seen through no proxy: ${missing.join(', ')}`, ...wrong].join('; ');
    return { result: 'VACUOUS', reason, figures };
  }
  return wrong.length === 0
    ? { result: 'PASS', figures }
    : { result: 'FAIL', reason: wrong.join('; '), figures };
}

async function allVersions(programs: Programs): Promise<Record<string, string>> {
  const curl = await versionOf({ path: 'curl', libraryPath: '' }, '--version');
  return { ...(await versionsOf(programs)), curl: curl.split(' ')[1] ?? 'unknown' };
}
