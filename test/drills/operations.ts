// Drill: what operators do to ten thousand jobs at once, at full size: a redrive with canary, speed limit and cancel; a reroute
// while both queues are worked on; a purge that is refused, confirmed and undone. Every job is counted by SQL afterwards.
// Next room: test/support/operations.ts; test/roles/operations.test.ts, the same in small.
import assert from 'node:assert/strict';
import { defineHandler } from '../../src/errand.ts';
import type { Pool } from '../../src/store/db.ts';
import { sql } from '../../src/store/sql.ts';
import { type Caller, calling } from '../support/call.ts';
import { startErrand } from '../support/errand.ts';
import { eachOnce, followed, isOver, type Shown, standing, submitted } from '../support/operations.ts';
import { poolOn } from '../support/postgres.ts';
import { until } from '../support/until.ts';
import type { Drill, Figures, Verdict } from './drill.ts';

const rate = 300;

interface Stage {
  call: Caller;
  db: Pool;
  jobs: number;
  say(line: string): void;
}

export const drill: Drill = {
  name: 'operations',
  proves:
    'bulk redrives, reroutes and purges of 10,000 jobs lose none and double none, and what is dangerous can be undone',
  profiles: ['short', 'long'],
  async run({ profile, say }): Promise<Verdict> {
    const jobs = profile === 'long' ? 50_000 : 10_000;
    let isBroken = true;
    const run = () => {
      if (isBroken) throw new Error('broken');
    };
    const errand = await startErrand({
      env: { ERRAND_TEST_CLOCK: 'true', ERRAND_LEASE_SECONDS: '600' },
      handlers: [defineHandler({ type: 'dies', run })],
    });
    const db = poolOn(errand.databaseUrl, 2);
    const stage: Stage = { call: calling(() => errand.url), db, jobs, say };
    try {
      const ids = await submitted(stage.call, jobs, { queue: 'dead', type: 'dies', max_attempts: 1 });
      await until(async () => (await lettersLeft(stage)) === jobs, { timeoutMs: 120_000, everyMs: 250 });
      isBroken = false;
      const redrive = await redriven(stage, ids);
      const reroute = await rerouted(stage);
      const purge = await purged(stage);
      return { result: 'PASS', figures: { jobs, redrive, reroute, purge } };
    } finally {
      await db.end();
      await errand.stop();
    }
  },
};

const lettersLeft = async ({ call }: Stage): Promise<number> =>
  (await call.post('/v1/dead-letters/redrive', { filter: { queue: 'dead' }, dry_run: true })).json.jobs;

/** A canary, then with a speed limit, cancelled; the rest at once; and once more, which finds nothing. */
async function redriven(stage: Stage, ids: readonly string[]): Promise<Figures> {
  const { call, db, jobs, say } = stage;
  const begin = async (more: object) =>
    (await call.post('/v1/dead-letters/redrive', { filter: { queue: 'dead' }, ...more })).json as Shown;
  const slow = await begin({ canary: 100, rate_per_second: rate });
  const canary = await followed(call, slow.id, ({ state }) => state === 'paused');
  assert.deepEqual(canary.counts, { redriven: 100 });
  await call.post(`/v1/operations/${slow.id}/resume`);
  await followed(call, slow.id, ({ matched }) => matched >= jobs / 5);
  const cancelAt = performance.now();
  const { matched } = (await call.post(`/v1/operations/${slow.id}/cancel`)).json as Shown;
  const cancel_ms = Math.round(performance.now() - cancelAt);
  assert.ok(cancel_ms < 1_000, `the cancel took ${cancel_ms} ms`);
  const pace = await db.one(paceOf, [slow.id, 100, rate]);
  say(`${matched} redriven at ${pace.average.toFixed(1)}/s of ${rate}; cancelled in ${cancel_ms} ms`);
  assert.ok(pace.ahead <= 0.5, `${pace.ahead} more than the limit allows`);
  assert.ok(pace.average >= rate * 0.9 && pace.average <= rate * 1.1, `${pace.average}/s instead of ${rate}`);
  assert.equal(await lettersLeft(stage), jobs - matched, 'a cancelled operation goes no further');
  const began = performance.now();
  const rest = await followed(call, (await begin({})).id, isOver);
  assert.deepEqual(rest.counts, { redriven: jobs - matched });
  const rest_ms = Math.round(performance.now() - began);
  assert.equal((await followed(call, (await begin({})).id, isOver)).matched, 0);
  const { made, different } = await db.one(countRepeats, [ids]);
  assert.deepEqual([made, different], [jobs, jobs], 'each letter is repeated once');
  return { limit: rate, average: pace.average, cancelled_after: matched, cancel_ms, rest_ms };
}

/** How fast an operation went since it was resumed behind its first items, and by how many it was ever ahead of its limit. */
const paceOf = sql<{ average: number; ahead: number }>`
with i as (
  select at, row_number() over (order by at, job_id) n from errand.operation_item where operation_id = $1::bigint
), r as (
  select extract(epoch from i.at - a.at) s, n - $2::int n from i cross join errand.audit a
  where n > $2 and a.action = 'operation.resume' and a.target = $1::text
)
select (max(n) / max(s))::float8 average, max(n - s * $3::int)::float8 ahead from r`;

const countRepeats = sql<{ made: number; different: number }>`
select count(*)::int made, count(distinct next_id)::int different from errand.successor where job_id = any($1::bigint[])`;

async function rerouted({ call, db, jobs, say }: Stage): Promise<Figures> {
  const ids = await submitted(call, jobs, (i) => ({
    queue: 'from',
    type: i % 3 === 0 ? 'a' : 'b',
    priority: i % 10,
    ...(i % 5 === 0 ? { delay_seconds: 36_000 } : {}),
  }));
  const ended = new Set<string>();
  let isOn = true;
  const work = async () => {
    while (isOn) {
      const { leases = [] } = (await call.post('/v1/leases', { queues: ['from', 'to'], limit: 10 })).json;
      for (const { id, job } of leases)
        if ((await call.post(`/v1/leases/${id}/complete`)).status === 200) ended.add(job.id);
    }
  };
  const cancel = async () => {
    for (const id of ids.slice(-500).filter((_, i) => i % 5 === 0))
      if ((await call.post(`/v1/jobs/${id}/cancel`)).json.state === 'cancelled') ended.add(id);
  };
  const load = [work(), work(), cancel()];
  const began = performance.now();
  const { id } = (await call.post('/v1/queues/from/reroute', { to: 'to' })).json;
  const done = await followed(call, id, isOver);
  const took_ms = Math.round(performance.now() - began);
  isOn = false;
  await Promise.all(load);
  assert.equal(done.state, 'done');
  const stands = await standing(db, ids);
  eachOnce(stands);
  assert.equal(stands.length, jobs);
  const open = stands.filter(({ state }) => state === 'queued' || state === 'scheduled');
  assert.ok(open.every((one) => one.queue === 'to' && one.own_queue === 'to'));
  assert.equal(open.length + ended.size, jobs, 'what is not over waits in the other queue');
  say(`${done.matched} of ${jobs} rerouted in ${took_ms} ms while ${ended.size} ended`);
  return { moved: done.matched, ended_meanwhile: ended.size, took_ms };
}

async function purged({ call, db, jobs, say }: Stage): Promise<Figures> {
  const ids = await submitted(call, jobs, (i) => ({
    queue: 'bad',
    type: 'a',
    priority: i % 10,
    ...(i % 10 === 0 ? { delay_seconds: 36_000 } : {}),
  }));
  const propose = async () =>
    (await call.post('/v1/admin/actions', { action: 'queue.purge', target: 'bad', reason: 'drill' })).json;
  const confirm = (id: string, phrase: string) => call.post(`/v1/admin/actions/${id}/confirm`, { phrase });
  const first = await propose();
  assert.equal(first.impact.jobs, jobs);
  assert.equal((await confirm(first.id, 'purge bad 1')).json.code, 'confirmation-mismatch');
  const more = await submitted(call, jobs / 5, { queue: 'bad', type: 'b' });
  const drifted = await confirm(first.id, first.confirm_phrase);
  assert.deepEqual([drifted.status, drifted.json.code], [409, 'impact-changed']);
  await call.post('/test/clock', { advance_seconds: 601 });
  assert.equal((await confirm(first.id, drifted.json.confirm_phrase)).json.code, 'action-expired');
  const all = [...ids, ...more];
  const before = await db.many(linesOf);
  const second = await propose();
  const began = performance.now();
  const { id } = (await confirm(second.id, second.confirm_phrase)).json;
  const held = await followed(call, id, ({ phase }) => phase === 'hold');
  const mark_ms = Math.round(performance.now() - began);
  assert.equal(held.counts.held, all.length);
  assert.deepEqual((await call.post('/v1/leases', { queues: ['bad'] })).json.leases, []);
  const undoAt = performance.now();
  await call.post(`/v1/operations/${id}/undo`);
  const undone = await followed(call, id, isOver);
  const undo_ms = Math.round(performance.now() - undoAt);
  assert.deepEqual([undone.state, undone.counts.put_back], ['undone', all.length]);
  eachOnce(await standing(db, all));
  assert.deepEqual(await db.many(linesOf), before, 'every job is where it was');
  assert.equal((await call.post(`/v1/operations/${id}/undo`)).json.state, 'undone');
  say(`${all.length} set aside in ${mark_ms} ms and put back in ${undo_ms} ms`);
  return { set_aside: all.length, mark_ms, undo_ms };
}

/** The blocks of the queue as they stand in line, and its jobs that wait for a time. */
const linesOf = sql<{ route: string; prio: number; ord: string; ids: string[] }>`
select l.route, b.prio, b.ord, b.ids[b.pos + 1:] ids from errand.block b join errand.lane l on l.id = b.lane
where l.queue = 'bad' union all
select l.route, -1, 0, array_agg(w.job_id order by w.job_id) from errand.later w join errand.lane l on l.id = w.lane
where l.queue = 'bad' group by l.route order by 1, 2, 3`;
