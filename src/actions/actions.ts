// Everything that can be asked, as the routes see it: one table of verbs, filled in by compose.ts, replaceable in a test.
// Next room: submit.ts, the first of them.
import type { PolicyOf } from '../domain/policy.ts';
import type { Audits } from './audit.ts';
import type { Bulk } from './bulk.ts';
import type { Cancel } from './cancel.ts';
import type { Change } from './change.ts';
import type { Dangerous } from './dangerous.ts';
import type { DeadLetters } from './dead-letters.ts';
import type { EstimateJob } from './estimate.ts';
import type { Guards } from './guards.ts';
import type { Histories } from './history.ts';
import type { Inspect } from './inspect.ts';
import type { Latency } from './latency.ts';
import type { Lead } from './lead.ts';
import type { List } from './list.ts';
import type { Operations } from './operations.ts';
import type { Pull } from './pull.ts';
import type { Queues } from './queues.ts';
import type { Roster } from './roster.ts';
import type { Runs } from './runs.ts';
import type { Schedules } from './schedules.ts';
import type { Statistics } from './statistics.ts';
import type { Submit } from './submit.ts';
import type { SubmitAll } from './submit-all.ts';
import type { Trigger } from './trigger.ts';
import type { Waiters } from './wait.ts';
import type { Watch } from './watch.ts';
import type { Why } from './why.ts';

export interface Actions {
  submit: Submit;
  submitAll: SubmitAll;
  inspect: Inspect;
  history: Histories;
  list: List;
  cancel: Cancel;
  change: Change;
  pull: Pull;
  queues: Queues;
  schedules: Schedules;
  trigger: Trigger;
  runs: Runs;
  leader: Lead['leader'];
  audit: Audits;
  deadLetters: DeadLetters;
  operations: Operations;
  bulk: Bulk;
  dangerous: Dangerous;
  policyOf: PolicyOf;
  roster: Roster;
  statistics: Statistics;
  guards: Guards;
  estimate: EstimateJob;
  latency: Latency;
  waiters: Waiters;
  watch: Watch;
  why: Why;
}
