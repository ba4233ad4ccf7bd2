// Decides whether a job is taken in by its queue as that is set at this moment, and how its caller is answered there.
// Invariants: a job in a queue of which nothing is set costs one look into memory; what an idempotency key names already is
// not refused, because it was taken in before.
// Next room: domain/acceptance.ts, which decides; levers.ts, what is set; guards.ts, how much there may be.
import { type Asked, draining, modeIn, refusalIn } from '../domain/acceptance.ts';
import type { AnswerMode } from '../domain/expectation.ts';
import { Problem } from '../domain/problem.ts';
import type { Levers } from './levers.ts';
import type { Statistics } from './statistics.ts';
import type { Submission } from './submit.ts';

/** A job to be taken in. */
export interface AcceptAsk {
  submission: Submission;
  mode: AnswerMode;
  now: Date;
  /** Where the name of the queue stands in the body; null: in the path. */
  pointer: string | null;
}

export interface Accept {
  /** How the caller is answered; throws what refuses the job. At once, unless there is something to look up. */
  (ask: AcceptAsk): AnswerMode | Promise<AnswerMode>;
  /** Why a queue takes no job that is moved or made otherwise, such as by a repeat; null: it takes it. */
  closed(queue: string, now: Date, pointer: string | null): Problem | null;
  /** Why a queue is none, where queues have to be made; null: it is one. */
  unknown(queue: string, pointer: string | null): Problem | null;
}

export interface AcceptOptions {
  levers: Pick<Levers, 'isUntouched' | 'settingsOf' | 'pauseOf' | 'drainOf' | 'isDefined' | 'look'>;
  statistics: Pick<Statistics, 'peek' | 'line' | 'queuedNow'>;
  /** Whether any job was ever submitted to a queue, as far as this process has heard. */
  hasLane: (queue: string) => boolean;
  /** Whether a key names a job already; throws where it stands for another request. */
  isKnown: (key: NonNullable<Submission['idempotency']>) => Promise<boolean>;
  /** Whether queues that nobody has made are refused. */
  strict: boolean;
  cap_seconds: number;
}

export function accepting(options: AcceptOptions): Accept {
  const { levers, statistics, hasLane, isKnown, strict } = options;

  const exists = (queue: string) => levers.isDefined(queue) ?? hasLane(queue);

  function decided({ submission, mode, now }: AcceptAsk): { mode: AnswerMode; refusal: Problem | null } {
    const { queue, type } = submission;
    const settings = levers.settingsOf(queue);
    const answered = modeIn(settings, mode, options.cap_seconds);
    const standing = {
      queue,
      settings,
      pause: levers.pauseOf(queue, type),
      drain: levers.drainOf(queue),
      now,
    };
    return {
      mode: answered,
      refusal: refusalIn(standing, askedOf(submission, now, settings.refuse_late_waits), answered),
    };
  }

  function askedOf(submission: Submission, now: Date, estimates: boolean): Asked {
    const { type, idempotency, run_at, delay_ms } = submission;
    return {
      type,
      hasKey: idempotency !== null,
      due_in: run_at === null ? (delay_ms ?? 0) / 1_000 : (Date.parse(run_at) - now.getTime()) / 1_000,
      estimate: estimates ? estimateOf(submission.queue, type, options) : null,
    };
  }

  /** Whether the answer goes by the rates of a queue that nobody has asked for lately. */
  function lacksRates({ submission: { queue }, mode }: AcceptAsk): boolean {
    const isJudged = mode.kind === 'sync' && levers.settingsOf(queue).refuse_late_waits;
    return isJudged && statistics.peek(queue) === undefined;
  }

  function answeredOf(ask: AcceptAsk): AnswerMode | Promise<AnswerMode> {
    const { mode, refusal } = decided(ask);
    return refusal === null ? mode : unlessKnown(ask.submission, mode, refusal);
  }

  async function unlessKnown(
    { idempotency }: Submission,
    mode: AnswerMode,
    refusal: Problem,
  ): Promise<AnswerMode> {
    if (idempotency !== null && (await isKnown(idempotency))) return mode;
    throw refusal;
  }

  async function afterLook(ask: AcceptAsk): Promise<AnswerMode> {
    // It may have just been made by another process.
    await levers.look();
    if (exists(ask.submission.queue)) return accept(ask);
    return unlessKnown(ask.submission, ask.mode, unknownQueue(ask.submission.queue, ask.pointer));
  }

  const accept = (ask: AcceptAsk): AnswerMode | Promise<AnswerMode> => {
    const { submission, mode } = ask;
    if (strict && !exists(submission.queue)) return afterLook(ask);
    if (mode.kind === 'async' && levers.isUntouched(submission.queue)) return mode;
    return lacksRates(ask) ? statistics.line(submission.queue).then(() => answeredOf(ask)) : answeredOf(ask);
  };

  const unknown = (queue: string, pointer: string | null) =>
    strict && !exists(queue) ? unknownQueue(queue, pointer) : null;

  return Object.assign(accept, {
    unknown,
    closed(queue: string, now: Date, pointer: string | null): Problem | null {
      const drain = levers.drainOf(queue);
      return unknown(queue, pointer) ?? (drain === null ? null : draining(queue, drain, now));
    },
  });
}

/** When a job that comes now would have ended: behind all that is ready, by the rate at which jobs start. */
function estimateOf(queue: string, type: string, { statistics }: AcceptOptions): number | null {
  const line = statistics.peek(queue);
  const starts = line?.pace.starts ?? 0;
  if (line === undefined || starts === 0) return null;
  const run_ms = statistics.peek(queue, type)?.pace.run_p50_ms ?? 0;
  return statistics.queuedNow(line) / starts + run_ms / 1_000;
}

function unknownQueue(queue: string, pointer: string | null): Problem {
  const remedy = `make it by PUT /v1/queues/${queue}, or name another`;
  if (pointer === null)
    return new Problem('not-found', { detail: `there is no queue "${queue}" here; ${remedy}` });
  const detail = `names queue "${queue}", which does not exist here; ${remedy}`;
  return new Problem('validation-failed', {
    detail: `${pointer} ${detail}`,
    errors: [{ pointer, code: 'unknown_queue', detail }],
  });
}
