// Why this room exists: what can happen to a leader, done to the process that leads now.
// Next room: schedule-run.ts, the stage; test/drills/schedules.ts and fence.ts.
import { randomUUID } from 'node:crypto';
import { setTimeout as pause } from 'node:timers/promises';
import type { Service } from './process.ts';
import type { ScheduleRun } from './schedule-run.ts';
import { until } from './until.ts';

/** The replica that leads; waits until there is one. */
export function leaderOf(run: ScheduleRun): Promise<Service> {
  return until(() => run.leader(), { timeoutMs: 60_000, everyMs: 50, what: 'a replica leads' });
}

/** Ends the leader with -9 and starts another in its place. */
export async function killLeader(run: ScheduleRun): Promise<void> {
  const leader = await leaderOf(run);
  await leader.kill9();
  await run.start(run.replicas.indexOf(leader));
}

/**
 * Freezes the leader in the middle of firing until another has fired, then thaws it: it wakes up with slots in its hands and
 * the belief that they are its own. `placing`: just before its transaction, as it asks for the lane of a job; `writing`:
 * inside it, with the term held. Answers how many writes its term has kept it from.
 */
export async function freezeLeader(run: ScheduleRun, when: 'placing' | 'writing'): Promise<number> {
  const leader = await leaderOf(run);
  const before = await fencedAt(leader);
  if (when === 'placing') {
    // Nobody has met the queue, so its lane has to be made.
    const name = `frozen-${randomUUID()}`;
    const first = await run.add({ name, queue: name, cron: '* * * * * *', timezone: 'UTC' });
    await pause(first.getTime() - Date.now() - 300);
  }
  await stopAtLock(run, leader, when === 'placing' ? 'insert into errand.lane' : 'insert into errand.slot');
  const { rows } = await run.truth.query<{ term: string }>('select term from errand.leader');
  const another = 'select from errand.slot where term > $1 limit 1';
  await until(async () => (await run.truth.query(another, [rows[0]?.term])).rowCount, {
    timeoutMs: 60_000,
    what: 'another leader fires',
  });
  leader.child.kill('SIGCONT');
  if (when === 'writing') return 0;
  return until(async () => (await fencedAt(leader)) - before, { timeoutMs: 5_000 }).catch(() => 0);
}

/** Lets the leader wait for a lock on what it inserts into, and stops it there before it has it. */
async function stopAtLock({ truth }: ScheduleRun, leader: Service, insert: string): Promise<void> {
  const holder = await truth.connect();
  try {
    await holder.query('begin');
    await holder.query(`lock table ${insert.replace('insert into', '')} in access exclusive mode`);
    await until(async () => (await truth.query(waiting, [`%${insert}%`])).rowCount, {
      everyMs: 20,
      what: `the leader waits to ${insert}`,
    });
    leader.child.kill('SIGSTOP');
  } finally {
    await holder.query('rollback');
    holder.release();
  }
}

const waiting = `
  select from pg_stat_activity
  where application_name like 'errand %' and wait_event_type = 'Lock' and query like $1`;

/** Times a replica was kept from writing in a term that was over, by its own count. */
async function fencedAt({ url }: Service): Promise<number> {
  const answer = await fetch(`${url}/metrics`, { signal: AbortSignal.timeout(5_000) });
  return Number(/^errand_fenced_total (\d+)$/m.exec(await answer.text())?.[1] ?? 0);
}
