// Executes a start by pushing it: one signed request to the job's target, whose answer is the verdict. Whatever stops the
// start cuts the connection, so the target can see it.
// Invariant: the body that is sent is the payload that was stored, byte for byte, and it is what is signed.
// Next room: target.ts, which sends; domain/push.ts, which writes the headers and judges; run.ts settles.
import { randomBytes } from 'node:crypto';
import type { Job } from '../../actions/claim.ts';
import { failed, type Verdict } from '../../domain/outcome.ts';
import { bytesOf } from '../../domain/payload.ts';
import { pushHeaders, type TargetAnswer, verdictOf } from '../../domain/push.ts';
import type { Events } from '../../events.ts';
import { type Execute, stopReasons } from './run.ts';
import type { Sender } from './target.ts';

export interface PushOptions {
  sender: Sender;
  /** The newest first. */
  secrets: readonly Buffer[];
  /** Writes the lease id by which the target can end the start itself. */
  seal: (job: Job) => string;
  release: string;
  /** Most bytes of a result. */
  resultLimit: number;
  onAnswered: (event: Events['target.answered']) => void;
}

/** Builds the execution by pushing. */
export function pushing(options: PushOptions): Execute {
  const { sender, secrets, seal, release, resultLimit, onAnswered } = options;
  return async (running) => {
    const { job } = running;
    const target = job.options?.target;
    if (target === undefined) return failed('permanent', 'the job is to be pushed and has no target');
    const body = bytesOf(job.payload, job.options);
    const began = performance.now();
    const span_id = job.options?.traceparent === undefined ? null : randomBytes(8).toString('hex');
    const headers = pushHeaders(job, {
      lease_id: seal(job),
      body,
      now: new Date(),
      secrets,
      release,
      span_id,
    });
    const answer = await sender.send({ url: target.url, method: target.method, headers, body }, running);
    const wasLate = running.stopped === 'deadline' && answer.kind === 'failed';
    const verdict = wasLate
      ? failed('timeout', stopReasons.deadline)
      : verdictOf(answer, target.url, resultLimit, new Date());
    onAnswered({
      job_id: job.job_id,
      queue: job.queue,
      type: job.type,
      outcome: outcomeOf(answer, verdict),
      http_status: answer.kind === 'answered' ? answer.status : null,
      took_ms: performance.now() - began,
    });
    return verdict;
  };
}

function outcomeOf(answer: TargetAnswer, verdict: Verdict): string {
  if (verdict.kind !== 'failed') return verdict.kind;
  const wasCut = answer.kind === 'failed' && answer.reason === 'aborted' && verdict.class !== 'timeout';
  return wasCut ? 'aborted' : verdict.class;
}
