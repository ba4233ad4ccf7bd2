// How the start of a job ended, in the words the service takes.
// Invariants: an ending can be written as JSON, whatever a handler returned or threw; what is refused all the same is told
// in plainer words, once.
// Next room: worker.ts, which tells it.
import { ErrandProblem, UnexpectedAnswer } from './problem.ts';
import type { Body } from './shapes.ts';

type FailureClass = NonNullable<Body<'failLease'>['class']>;

/** Thrown by a handler to say what kind of failure it is; any other error is retryable. */
export class JobFailed extends Error {
  override readonly name = 'JobFailed';
  readonly class: FailureClass;
  readonly retryAfterSeconds: number | undefined;

  constructor(failure: FailureClass, message: string, options: { retryAfterSeconds?: number } = {}) {
    super(message);
    this.class = failure;
    this.retryAfterSeconds = options.retryAfterSeconds;
  }
}

/** The service keeps 2,000 characters, without what no text may hold. */
const longest_message = 2_000;

export interface Ending {
  how: 'complete' | 'fail' | 'release';
  json: Body<'completeLease'> | Body<'failLease'> | Body<'releaseLease'>;
  error: unknown;
  /** Nothing is told instead when it is refused. */
  isLast?: boolean;
}

export function succeeding(result: unknown): Ending {
  try {
    if (result === undefined) return { how: 'complete', json: {}, error: undefined };
    if (JSON.stringify(result) === undefined) throw new TypeError(`a ${typeof result} is not JSON`);
    return { how: 'complete', json: { result }, error: undefined };
  } catch (error) {
    // The same work would bring it again.
    return failing('permanent', 'the result is not JSON', error);
  }
}

export function endingOf(error: unknown, signal: AbortSignal): Ending {
  // Of a job that is to be cancelled, giving it back is the consent.
  if (signal.aborted) return { how: 'release', json: {}, error };
  if (!(error instanceof JobFailed)) return failing('retryable', said(error), error);
  return failing(error.class, error.message, error, error.retryAfterSeconds);
}

/** What to tell where the service does not take an ending: in plain words, which it takes. */
export function insteadOf({ how, error, isLast = false }: Ending, refusal: unknown): Ending | null {
  if (isLast || how === 'release' || !isRefusal(refusal)) return null;
  // A result that cannot be kept, too large for example: the same work would bring it again.
  if (how === 'complete') return failing('permanent', `the result was refused: ${refusal.message}`, refusal);
  const both = new AggregateError([error, refusal], `the failure was refused: ${refusal.message}`);
  return { ...failing('retryable', both.message, both), isLast: true };
}

function failing(
  failure: FailureClass,
  message: string,
  error: unknown,
  retry_after_seconds?: number,
): Ending {
  const after = retry_after_seconds === undefined ? {} : { retry_after_seconds };
  // Not cut in the middle of a character.
  const beginning = message.slice(0, longest_message).replace(/[\ud800-\udbff]$/, '');
  const json: Body<'failLease'> = { class: failure, message: beginning, ...after };
  return { how: 'fail', json, error };
}

function said(error: unknown): string {
  try {
    return String(error);
  } catch {
    return 'what was thrown says nothing of itself';
  }
}

/** Whether the answer is one that a repetition would get again. */
function isRefusal(error: unknown): error is ErrandProblem | UnexpectedAnswer {
  const isAnswer = error instanceof ErrandProblem || error instanceof UnexpectedAnswer;
  return isAnswer && error.status < 500 && error.status !== 429;
}
