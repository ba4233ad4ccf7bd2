// Why this room exists: what can happen to a leader, done to the process that leads now.
// Next room: schedule-run.ts, the stage; test/drills/schedules.ts and fence.ts.
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
 * Freezes the leader while the database looks for due schedules for it, until another has fired; then thaws it. So it wakes
 * up with slots in its hands and the belief that they are its own. Answers how many writes it was kept from.
 */
export async function freezeLeader(run: ScheduleRun): Promise<number> {
  const leader = await leaderOf(run);
  const before = await fencedAt(leader);
  while (!(await freezeAtSlots(run, leader)));
  const { rows } = await run.truth.query<{ term: string }>('select term from errand.leader');
  const another = 'select from errand.slot where term > $1 limit 1';
  await until(async () => (await run.truth.query(another, [rows[0]?.term])).rowCount, {
    timeoutMs: 60_000,
    what: 'another leader fires',
  });
  leader.child.kill('SIGCONT');
  return until(async () => (await fencedAt(leader)) - before, { timeoutMs: 5_000 }).catch(() => 0);
}

/** False: it looked just before anything was due, and would have had nothing to write. */
async function freezeAtSlots({ truth }: ScheduleRun, leader: Service): Promise<boolean> {
  const holder = await truth.connect();
  try {
    await holder.query('begin');
    await holder.query('lock table errand.schedule in access exclusive mode');
    const next = await holder.query<{ due: Date }>('select min(next_due) due from errand.schedule');
    const looking = await until(async () => (await truth.query<{ since: Date }>(waiting)).rows[0], {
      everyMs: 20,
      what: 'the leader looks for due schedules',
    });
    const isDue = next.rows[0] !== undefined && looking.since >= next.rows[0].due;
    if (isDue) leader.child.kill('SIGSTOP');
    return isDue;
  } finally {
    await holder.query('rollback');
    holder.release();
  }
}

// A session behind PgBouncer bears the name that its client gave.
const waiting = `
  select xact_start since from pg_stat_activity
  where application_name = 'errand office' and wait_event_type = 'Lock' and query like '%errand.schedule%'`;

/** Times a replica was kept from writing in a term that was over, by its own count. */
async function fencedAt({ url }: Service): Promise<number> {
  const answer = await fetch(`${url}/metrics`, { signal: AbortSignal.timeout(5_000) });
  return Number(/^errand_fenced_total (\d+)$/m.exec(await answer.text())?.[1] ?? 0);
}
