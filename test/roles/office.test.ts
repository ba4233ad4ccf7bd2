// Who leads, over several processes on one database: handed over at a stop, taken over from one that is cut off, and told
// of by every replica.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import { startErrand, type TestErrand } from '../support/errand.ts';
import { cloneDatabase, poolOn } from '../support/postgres.ts';
import { faultProxy } from '../support/proxy.ts';
import { keepSchedule, ledgerOf } from '../support/schedules.ts';
import { until } from '../support/until.ts';

const ends: (() => Promise<unknown>)[] = [];
after(async () => {
  for (const end of ends.reverse()) await end();
});

async function stage() {
  const database = await cloneDatabase();
  ends.push(() => database.drop());
  const db = poolOn(database.url, 2);
  ends.push(() => db.end());
  return { database, db };
}

async function start(databaseUrl: string, env: Record<string, string> = {}): Promise<TestErrand> {
  const errand = await startErrand({ databaseUrl, env: { ERRAND_TERM_SECONDS: '2', ...env } });
  ends.push(() => errand.stop());
  return errand;
}

/** The leader as this replica tells of it. */
async function leaderBy(
  errand: TestErrand,
): Promise<{ status: string; observedValue?: string; componentId?: string }> {
  const { checks } = (await (await fetch(`${errand.url}/health`)).json()) as {
    checks: Record<string, { status: string; observedValue?: string; componentId?: string }[]>;
  };
  return checks['dispatcher:leader']?.[0] ?? { status: 'absent' };
}

async function metric(errand: TestErrand, name: string): Promise<number> {
  const text = await (await fetch(`${errand.url}/metrics`)).text();
  return Number(text.match(new RegExp(`^${name} (.*)$`, 'm'))?.[1] ?? Number.NaN);
}

test('a leader that stops hands over at once, and no slot is lost or doubled between the two', async () => {
  const { database, db } = await stage();
  const first = await start(database.url, { ERRAND_TERM_SECONDS: '60' });
  const second = await start(database.url, { ERRAND_TERM_SECONDS: '60' });
  const id = await keepSchedule(db, 'each-second');
  await first.next('slot.decided');
  assert.deepEqual([await metric(first, 'errand_leader'), await metric(second, 'errand_leader')], [1, 0]);
  const taken = second.next('slot.decided');
  await first.stop();
  await taken;
  const rows = await db.many(ledgerOf, [id]);
  assert.deepEqual([...new Set(rows.map(({ term }) => term))], ['1', '2']);
  assert.deepEqual(
    rows.map(({ slot }) => slot.getTime()),
    rows.map((_, n) => (rows[0]?.slot.getTime() ?? 0) + n * 1_000),
  );
  await until(async () => (await leaderBy(second)).observedValue === 'term 2');
});

test('a leader that the database no longer hears is replaced, and writes nothing when it is back', async () => {
  const { database, db } = await stage();
  const address = new URL(database.url);
  const proxy = await faultProxy(Number(address.port));
  ends.push(() => proxy.stop());
  const behind = new URL(database.url);
  behind.hostname = '127.0.0.1';
  behind.port = String(proxy.port);
  const cutOff = await start(behind.href, { ERRAND_STATEMENT_TIMEOUT_SECONDS: '0.5' });
  await until(async () => (await metric(cutOff, 'errand_leader')) === 1);
  const other = await start(database.url);
  const id = await keepSchedule(db, 'each-second');
  await cutOff.next('slot.decided');
  const lost = cutOff.next('leader.lost');
  const taken = other.next('slot.decided');
  proxy.blackHole();
  await Promise.all([lost, taken]);
  await proxy.heal();
  await other.next('slot.decided');
  const rows = await db.many(ledgerOf, [id]);
  assert.deepEqual([...new Set(rows.map(({ term }) => term))], ['1', '2']);
  assert.deepEqual(
    rows.map(({ slot }) => slot.getTime()),
    rows.map((_, n) => (rows[0]?.slot.getTime() ?? 0) + n * 1_000),
  );
});

test('a process that acts in a term that was taken from it is kept out, and tells of it', async () => {
  const { database, db } = await stage();
  const errand = await start(database.url, { ERRAND_TERM_SECONDS: '60' });
  await errand.next('leader.elected');
  await db.many({ text: `update errand.leader set term = term + 7, holder = 'other'` });
  const fenced = errand.next('term.fenced');
  const id = await keepSchedule(db, 'guarded', { behind_seconds: 3 });
  assert.deepEqual(await fenced, { term: '1' });
  assert.deepEqual(await db.many(ledgerOf, [id]), []);
  assert.equal(await metric(errand, 'errand_fenced_total'), 1);
  assert.equal(await metric(errand, 'errand_leader'), 0);
  // The other one never renews: its term ends, and this process leads again.
  await db.many({ text: 'update errand.leader set until = clock_timestamp()' });
  await errand.next('slot.decided');
  assert.ok((await db.many(ledgerOf, [id])).every(({ term }) => term === '9'));
});

test('a replica that cannot lead tells that nobody does, and how long the oldest slot has waited', async () => {
  const { database, db } = await stage();
  const api = await start(database.url, { ERRAND_ROLES: 'api' });
  await keepSchedule(db, 'forgotten', { behind_seconds: 100 });
  assert.equal((await leaderBy(api)).status, 'warn');
  assert.ok((await metric(api, 'errand_schedule_oldest_due_seconds')) >= 100);
  assert.equal((await fetch(`${api.url}/health/ready`)).status, 200);
});
