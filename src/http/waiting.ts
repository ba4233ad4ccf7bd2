// Holds a caller who wants the outcome in the same call, and answers by the table in docs/contract.md, Outcomes.
// Invariants: a success is never refused; a job is cancelled at the end of a demanded wait only when this request made it
// and it has never started, in one step of the database, so `executed: false` is always true; what was stored is never
// told as lost.
// Next room: domain/outcome.ts, which is the table; actions/wait.ts, which holds.
import type { FastifyReply } from 'fastify';
import type { Actions } from '../actions/actions.ts';
import type { WaitEnd } from '../actions/wait.ts';
import type { SoftMode, SyncMode } from '../domain/expectation.ts';
import { isTerminal } from '../domain/job.ts';
import { type Answer, answerFor } from '../domain/outcome.ts';
import { Problem } from '../domain/problem.ts';
import type { ProblemSlug } from '../domain/problems.ts';
import { errorOf, type NamedFacts } from '../domain/record.ts';
import {
  departure,
  existing,
  headerSafe,
  missing,
  sendAccepted,
  sendJson,
  sendNobody,
  sendRecord,
  statusPath,
} from './answer.ts';

/** A stored job whose caller waits. */
export interface Wait {
  id: string;
  mode: SoftMode | SyncMode;
  /** When the request came, on the monotonic clock. */
  began: number;
  /** Whether this request made the job; another's is never cancelled. */
  isOurs: boolean;
  /** Whether the caller can come back to this job with its Idempotency-Key. */
  hasKey: boolean;
  /** Whether a job that runs is to be cancelled when the wait is over. */
  cancelsRunning: boolean;
}

interface Seen {
  over: Exclude<WaitEnd, 'gone'>;
  /** With the result, where the job has ended. */
  facts: Facts;
}

type Facts = NamedFacts & { result?: string | null };

/** Waits and answers. */
export async function answerAfterWait(
  actions: Actions,
  reply: FastifyReply,
  wait: Wait,
): Promise<FastifyReply> {
  if (wait.mode.preferenceAppliedToOutcome !== null) {
    reply.header('preference-applied', wait.mode.preferenceAppliedToOutcome);
  }
  try {
    return await answered(actions, reply, wait);
  } catch (error) {
    return unreadable(wait, error);
  }
}

async function answered(actions: Actions, reply: FastifyReply, wait: Wait): Promise<FastifyReply> {
  const seen = await untilEnd(actions, reply, wait);
  if (seen === null) return sendNobody(reply);
  const { over, facts } = seen;
  const answer = outcomeOf(wait, facts);
  if (answer !== null) return sendOutcome(actions, reply, facts, answer);
  if (wait.mode.kind === 'soft') return sendAccepted(reply, wait.mode, facts);
  if (!wait.isOurs || (over === 'drained' && wait.hasKey)) {
    throw unfinished(wait, over, hasStarted(facts) ? 'in_progress' : 'pending', facts.state);
  }
  return withdraw(actions, reply, wait, over);
}

async function untilEnd(actions: Actions, reply: FastifyReply, wait: Wait): Promise<Seen | null> {
  const gone = departure(reply);
  const until = wait.began + wait.mode.wait_seconds * 1_000;
  if (!wait.isOurs) {
    const facts = await existing(actions.inspect, wait.id);
    if (isTerminal(facts.state)) return { over: 'ended', facts };
  }
  for (;;) {
    const left = until - performance.now();
    // A timer may fire a millisecond early, and `waited_ms` is told to the caller.
    const over = left <= 0 ? 'time' : await actions.waiters.ended(wait.id, Math.ceil(left) + 1, gone);
    if (over === 'gone') return null;
    const facts = await (over === 'ended' ? awaited : existing)(actions.inspect, wait.id);
    if (over !== 'ended' || isTerminal(facts.state)) return { over, facts };
  }
}

async function awaited(inspect: Actions['inspect'], id: string): Promise<Facts> {
  return (await inspect.awaited(id)) ?? missing(inspect, id);
}

function outcomeOf({ mode }: Wait, facts: NamedFacts): Answer | null {
  return answerFor(mode.kind === 'soft' ? 'soft' : mode.expectation, {
    ...facts,
    error: errorOf(facts),
    // Not every word of an end fits behind "was".
    why: facts.error?.startsWith('superseded') ? facts.error : null,
  });
}

async function sendOutcome(
  { inspect }: Actions,
  reply: FastifyReply,
  facts: Facts,
  { status, body, location, content_location }: Answer,
): Promise<FastifyReply> {
  if (body instanceof Problem) throw body;
  if (location !== null) reply.header('location', headerSafe(location));
  if (content_location !== null) reply.header('content-location', headerSafe(content_location));
  if (body === 'none') return reply.code(status).send();
  const read = async () => facts.result ?? (await inspect.result(facts.id))?.result;
  const result = body === 'result' ? await read() : null;
  return result == null ? sendRecord(reply, status, facts) : sendJson(reply, status, result);
}

/** Takes back a job that has not started; one that has goes on, or is asked to stop where its caller wants that. */
async function withdraw(
  actions: Actions,
  reply: FastifyReply,
  wait: Wait,
  over: Seen['over'],
): Promise<FastifyReply> {
  const withdrawn = await actions.cancel.cancelUnstarted(wait.id);
  if (withdrawn.kind === 'taken') throw unfinished(wait, over, false, 'cancelled');
  if (withdrawn.kind === 'absent') return missing(actions.inspect, wait.id);
  const asks = wait.cancelsRunning && over === 'time' && withdrawn.kind === 'started';
  if (asks) await actions.cancel.cancel(wait.id);
  const facts = await existing(actions.inspect, wait.id);
  // What our own request to stop brought about is no "cancelled by someone else".
  const answer = asks && facts.state === 'cancelled' ? null : outcomeOf(wait, facts);
  if (answer !== null) return sendOutcome(actions, reply, facts, answer);
  throw unfinished(wait, over, 'in_progress', facts.state);
}

function hasStarted(facts: NamedFacts): boolean {
  return facts.epoch > 0;
}

function unfinished(
  { id, mode, began }: Wait,
  over: Seen['over'],
  executed: false | 'in_progress' | 'pending',
  state: NamedFacts['state'],
): Problem {
  const why = over === 'drained' ? 'this server is stopping' : `the wait of ${mode.wait_seconds} s is over`;
  const what = {
    false: `job ${id} had not started; it was cancelled and will not run`,
    in_progress: `job ${id} has started; follow Location`,
    pending: `job ${id} has not started and stays queued; follow Location`,
  }[`${executed}`];
  return new Problem(over === 'drained' ? 'draining' : 'expectation-timeout', {
    detail: `${why}; ${what}`,
    headers: executed === false ? {} : { location: statusPath(id) },
    extra: { executed, waited_ms: Math.round(performance.now() - began) },
    job: { id, state },
  });
}

const storeTrouble: ReadonlySet<ProblemSlug> = new Set(['database-unavailable', 'queue-saturated']);

// The job is stored, whatever the database says now: a caller who is told less would send it twice.
function unreadable({ id }: Wait, error: unknown): never {
  if (!(error instanceof Problem) || !storeTrouble.has(error.slug)) throw error;
  throw new Problem('outcome-unknown', {
    detail: `job ${id} is stored, but how it is could not be read; follow Location`,
    headers: { location: statusPath(id) },
    cause: error,
  });
}
