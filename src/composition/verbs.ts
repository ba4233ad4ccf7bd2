// The part of the composition root that can be asked: every verb, tied to the parts it works with.
// Invariant: whoever asks, a route, a schedule or a test, asks these.
// Next room: actions/actions.ts, the table of them; http/app.ts, whose routes ask.
import { accepting } from '../actions/accept.ts';
import type { Actions } from '../actions/actions.ts';
import { changing } from '../actions/change.ts';
import { deadLettering } from '../actions/dead-letters.ts';
import { estimating } from '../actions/estimate.ts';
import { recalling } from '../actions/history.ts';
import { inspecting, naming } from '../actions/inspect.ts';
import { readingLatency } from '../actions/latency.ts';
import { listing } from '../actions/list.ts';
import { pulling } from '../actions/pull.ts';
import { redriving } from '../actions/redrive.ts';
import type { Roster } from '../actions/roster.ts';
import { running } from '../actions/runs.ts';
import { scheduling } from '../actions/schedules.ts';
import { knownJob, submitting } from '../actions/submit.ts';
import { submittingAll } from '../actions/submit-all.ts';
import { triggering } from '../actions/trigger.ts';
import { explaining } from '../actions/why.ts';
import type { Config } from '../config.ts';
import type { PolicyOf } from '../domain/policy.ts';
import { retryDefaultsOf } from '../domain/queue-settings.ts';
import type { EventBus } from '../events.ts';
import { dispatcherRoom, findLeader } from '../store/leader.ts';
import type { BulkVerbs } from './bulk.ts';
import type { Counting } from './counting.ts';
import type { Desk } from './desk.ts';
import type { Movers } from './movers.ts';
import type { Stores } from './stores.ts';
import type { Telling } from './telling.ts';

export function verbs(
  config: Config,
  { intake, read, browse, lanes, workers, secrets }: Stores,
  events: EventBus,
  parts: {
    movers: Movers;
    telling: Telling;
    operators: Desk;
    counts: Counting;
    inBulk: BulkVerbs;
    roster: Roster;
    /** What time it is for jobs. */
    now: () => Date;
    /** A job falls due in so many ms. */
    onLater: (ms: number) => void;
  },
): Actions {
  const { telling, operators, counts, inBulk, roster, now, onLater } = parts;
  const { heads, ready, heartbeat, handOver, progress, settle, claim, cancel, keys } = parts.movers;
  const { levers } = operators;
  const { statistics, guards } = counts;
  const secret = secrets.cursor;
  const named = naming(lanes, workers);
  const inspect = inspecting(read, named);
  const intakeOf = { db: intake, lanes, ready, events, keys, onLater, guards };
  const policyOf: PolicyOf = (queue, type) => retryDefaultsOf(levers.settingsOf(queue), type);
  const accept = accepting({
    levers,
    statistics,
    hasLane: (queue) => lanes.hasQueue(queue),
    isKnown: async (key) => (await knownJob(intake, key)) !== undefined,
    strict: config.ERRAND_STRICT_QUEUES,
    cap_seconds: config.ERRAND_WAIT_CAP_SECONDS,
  });
  const closed = (queue: string, pointer: string | null) => accept.closed(queue, now(), pointer);
  return {
    accept,
    submit: submitting(intakeOf),
    submitAll: submittingAll(intakeOf),
    inspect,
    history: recalling(browse, workers),
    list: listing({
      ...{ db: browse, named, secret },
      // A job may be made by the last of a few statements of its transaction.
      overlap_seconds: config.ERRAND_STATEMENT_TIMEOUT_SECONDS * 5,
    }),
    cancel,
    change: changing({ db: read, inspect, lanes, ready, events, onLater, closed }),
    pull: roster.hearing(
      pulling({
        ...{ claim, heartbeat, progress, settle, inspect, lanes, workers, ready, heads, now },
        standing: handOver.standing,
        waiters: telling.waiters,
        secrets: [secrets.lease],
        random: Math.random,
      }),
    ),
    schedules: scheduling({ db: browse, secret, events }),
    trigger: triggering({ ...intakeOf, policyOf, closed: (queue) => closed(queue, null) }),
    policyOf,
    runs: running({ db: browse, secret }),
    ...operators.actions,
    deadLetters: deadLettering({
      ...{ db: browse, lanes, events, secret },
      redrives: redriving({ lanes, ready, events, onLater, closed }),
    }),
    ...inBulk,
    leader: () => read.maybeOne(findLeader, [dispatcherRoom]),
    roster,
    statistics,
    guards,
    estimate: estimating({ statistics, levers, random: () => Math.random() }),
    latency: readingLatency({ db: browse }),
    waiters: telling.waiters,
    watch: telling.watch,
    why: explaining({
      ...{ db: browse, inspect, lanes, workers, roster },
      pausesOf: (queue, type) => levers.pausesOf(queue, type),
    }),
  };
}
