// Why this room exists: the checker of the schedule drills. It compares the ledger and the jobs in the database with the
// slots that another cron library names.
// Invariant: it asks nothing of the program, so no fault of the program can hide here.
// Next room: oracle.ts; schedule-run.ts, which waits until the books can be closed.
import type pg from 'pg';
import type { Figures, Verdict } from '../drills/drill.ts';
import { type Plan, slotsOf } from './oracle.ts';

export interface Books {
  due: number;
  in_ledger: number;
  /** Slots that were due and are not in the ledger, and the other way round. */
  missing: string[];
  invented: string[];
  /** Slots that were skipped: no drill gives a reason for that. */
  skipped: string[];
  /** Slots whose job is not there, is not of this slot, or is not the only one. */
  jobless: string[];
  doubled: string[];
  open_jobs: number;
  not_succeeded: string[];
  /** Jobs that were told another moment than their slot. */
  misled: string[];
  on_time: number;
  late: number;
  caught_up: number;
  /** From when a slot was due to when it was decided, by the clock of the database, in s. */
  lateness: { p50: number; p99: number; max: number };
  terms: number;
}

interface Row {
  name: string;
  slot: Date;
  outcome: string;
  job_id: string | null;
  lateness: number;
}

export async function balance(truth: pg.Pool, plans: readonly Plan[], from: Date, to: Date): Promise<Books> {
  const due = new Set(
    plans.flatMap((plan) => [...slotsOf(plan, from, to)].map((slot) => `${plan.name} ${slot}`)),
  );
  const { rows } = await truth.query<Row>(
    `select s.name, l.slot, l.outcome, l.job_id, extract(epoch from l.decided_at - l.due_at)::float8 lateness
     from errand.slot l join errand.schedule s on s.id = l.schedule_id`,
  );
  const jobs = await jobsOf(truth);
  const ledger = new Map(rows.map((row) => [keyOf(row), row]));
  const fired = rows.filter(({ outcome }) => outcome !== 'skipped');
  const count = (outcome: string) => rows.filter((row) => row.outcome === outcome).length;
  const lateness = fired.map((row) => row.lateness).sort((a, b) => a - b);
  const at = (share: number) =>
    lateness[Math.min(lateness.length - 1, Math.floor(lateness.length * share))] ?? 0;
  const states = [...jobs.values()].flat();
  return {
    due: due.size,
    in_ledger: rows.length,
    missing: [...due].filter((key) => !ledger.has(key)),
    invented: [...ledger.keys()].filter((key) => !due.has(key)),
    skipped: rows.filter(({ outcome }) => outcome === 'skipped').map(keyOf),
    jobless: fired.filter((row) => !jobs.get(keyOf(row))?.some(({ id }) => id === row.job_id)).map(keyOf),
    doubled: [...jobs].filter(([key, all]) => all.length > 1 || !ledger.has(key)).map(([key]) => key),
    open_jobs: states.filter(({ state }) => !ends.has(state)).length,
    not_succeeded: states
      .filter(({ state }) => state !== 'succeeded')
      .map(({ id, state }) => `${id} ${state}`),
    misled: states
      .filter(({ told, slot }) => told !== null && told !== JSON.stringify(slot))
      .map(({ id }) => id),
    on_time: count('on_time'),
    late: count('late'),
    caught_up: count('caught_up'),
    lateness: { p50: rounded(at(0.5)), p99: rounded(at(0.99)), max: rounded(at(1)) },
    terms: await termsOf(truth),
  };
}

/** PASS, unless the books speak against it or what was to be proven never happened. */
export function verdictOn(
  books: Books,
  {
    most_lateness_seconds,
    happened,
    figures,
    versions = {},
  }: {
    most_lateness_seconds: number;
    /** What must have happened, in words, for the books to prove anything. */
    happened: Record<string, boolean>;
    figures: Figures;
    versions?: Record<string, string>;
  },
): Verdict {
  const { due, in_ledger, on_time, late, caught_up, lateness, terms } = books;
  const all = {
    ...figures,
    due,
    in_ledger,
    on_time,
    late,
    caught_up,
    lateness_seconds: { ...lateness },
    terms,
  };
  const reason = complaint(books, most_lateness_seconds);
  if (reason !== undefined) return { result: 'FAIL', reason, figures: all, versions };
  const never = Object.keys(happened).filter((what) => !happened[what]);
  if (never.length > 0)
    return { result: 'VACUOUS', reason: `it never happened: ${never.join(', ')}`, figures: all, versions };
  return { result: 'PASS', figures: all, versions };
}

function complaint(books: Books, most_lateness_seconds: number): string | undefined {
  const broken = {
    'slots that are not in the ledger': books.missing,
    'slots that were never due': books.invented,
    'slots that were skipped': books.skipped,
    'slots without their job': books.jobless,
    'slots with two jobs, or a job without its slot': books.doubled,
    'jobs that did not succeed': books.not_succeeded,
    'jobs that were told another slot': books.misled,
  };
  for (const [what, which] of Object.entries(broken)) {
    if (which.length > 0) return `${which.length} ${what}: ${which.slice(0, 5).join(', ')}`;
  }
  if (books.lateness.p99 > most_lateness_seconds) {
    return `the p99 of lateness is ${books.lateness.p99} s, not ${most_lateness_seconds} s at most`;
  }
  return undefined;
}

const ends = new Set(['succeeded', 'failed', 'dead', 'cancelled', 'expired']);

interface Made {
  id: string;
  state: string;
  name: string;
  slot: Date;
  /** What its handler answered. */
  told: string | null;
}

/** The jobs of schedules, by schedule and slot. */
async function jobsOf(truth: pg.Pool): Promise<Map<string, Made[]>> {
  const { rows } = await truth.query<Made>(
    `select f.id, f.state, j.options #>> '{schedule,name}' as name, (j.options #>> '{schedule,slot}')::timestamptz slot,
       (select result from errand.outcome o where o.job_id = j.id and o.status = 'succeeded') told
     from errand.job j cross join lateral errand.job_facts(array[j.id]) f where j.options ? 'schedule'`,
  );
  const jobs = new Map<string, Made[]>();
  for (const row of rows) jobs.set(keyOf(row), [...(jobs.get(keyOf(row)) ?? []), row]);
  return jobs;
}

async function termsOf(truth: pg.Pool): Promise<number> {
  const { rows } = await truth.query<{ term: number }>('select max(term)::int term from errand.leader');
  return rows[0]?.term ?? 0;
}

function keyOf({ name, slot }: { name: string; slot: Date }): string {
  return `${name} ${slot.toISOString()}`;
}

function rounded(seconds: number): number {
  return Math.round(seconds * 1_000) / 1_000;
}
