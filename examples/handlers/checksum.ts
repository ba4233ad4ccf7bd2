// A handler as they are in earnest: it checks what callers send, obeys its signal, and says which failures are worth
// another attempt. POST {"type":"checksum","payload":{"text":"errand","rounds":100000}} to try it.
// Invariant: between two looks at the signal lies a short stretch of work, so a cancel, a deadline or a drain is obeyed soon.
// Next room: docs/guides/handlers.md.
import { createHash, getHashes } from 'node:crypto';
import { setImmediate as others } from 'node:timers/promises';
import { defineHandler, JobError } from 'errand';

interface Request {
  text: string;
  /** Default sha256. */
  algorithm?: string;
  /** How often the digest is digested again, which makes guessing the text costly; default 1. */
  rounds?: number;
}

const mostRounds = 50_000_000;
const roundsAtOnce = 2_000;
const heavyRounds = 1_000_000;
let heavy = 0;

export default defineHandler<Request>({
  type: 'checksum',
  async run(payload, { job_id, epoch, signal }) {
    const { text, algorithm, rounds } = checked(payload);
    // One heavy job at a time: the others come back later instead of making the process slow for all.
    const isHeavy = rounds >= heavyRounds;
    if (isHeavy && heavy > 0) {
      throw new JobError('rate_limited', 'another heavy checksum runs here', { retry_after_seconds: 1 });
    }
    if (isHeavy) heavy++;
    try {
      let digest = createHash(algorithm).update(text).digest();
      for (let round = 1; round < rounds; round++) {
        digest = createHash(algorithm).update(digest).digest();
        if (round % roundsAtOnce === 0) {
          await others();
          signal.throwIfAborted();
        }
      }
      // With effects outside, store job_id and epoch beside them: the id makes them happen once, the epoch refuses
      // those of a start that was overtaken.
      return { algorithm, rounds, checksum: digest.toString('hex'), job_id, epoch };
    } finally {
      if (isHeavy) heavy--;
    }
  },
});

/** Callers can send anything; what will never be right is permanent, so that nobody tries it eight times. */
function checked(payload: Partial<Request> | null): Required<Request> {
  const { text, algorithm = 'sha256', rounds = 1 } = payload ?? {};
  if (typeof text !== 'string') throw new JobError('permanent', 'payload.text must be a text');
  if (typeof algorithm !== 'string' || !getHashes().includes(algorithm)) {
    throw new JobError('permanent', 'payload.algorithm is not known; sha256 is');
  }
  if (!Number.isInteger(rounds) || rounds < 1 || rounds > mostRounds) {
    throw new JobError('permanent', `payload.rounds must be a whole number from 1 to ${mostRounds}`);
  }
  return { text, algorithm, rounds };
}
