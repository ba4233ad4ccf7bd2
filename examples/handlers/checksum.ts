// A handler as they are in earnest: it computes in a thread of its own, checks what callers send, obeys its signal, shows how
// far it is, and goes on from its last checkpoint after a crash.
// POST {"type":"checksum","payload":{"text":"errand","rounds":5000000}} to try it.
// Invariant: between two looks at the signal lies a short stretch of work, so a cancel, a deadline or a drain is obeyed soon.
// Next room: docs/guides/handlers.md.
import { createHash, getHashes } from 'node:crypto';
import { defineHandler, JobError } from 'errand';

interface Request {
  text: string;
  /** Default sha256. */
  algorithm?: string;
  /** How often the digest is digested again, which makes guessing the text costly; default 1. */
  rounds?: number;
}

/** How far it is. */
interface Checkpoint {
  round: number;
  digest: string;
}

const mostRounds = 50_000_000;
const roundsAtOnce = 2_000;
const roundsAtRisk = 100_000;

export default defineHandler<Request>({
  type: 'checksum',
  // Without it the whole process would stand still while this one computes.
  thread: true,
  async run(payload, { job_id, epoch, signal, progress, checkpoint, last_checkpoint }) {
    const { text, algorithm, rounds } = checked(payload);
    const before = last_checkpoint as Checkpoint | null;
    let digest = before ? Buffer.from(before.digest, 'hex') : createHash(algorithm).update(text).digest();
    for (let round = before?.round ?? 1; round < rounds; round++) {
      digest = createHash(algorithm).update(digest).digest();
      if (round % roundsAtOnce === 0) {
        signal.throwIfAborted();
        progress({ current: round, total: rounds, message: `${algorithm} of ${text.length} characters` });
      }
      if (round % roundsAtRisk === 0) {
        await checkpoint({ round: round + 1, digest: digest.toString('hex') } satisfies Checkpoint);
      }
    }
    // With effects outside, store job_id and epoch beside them: the id makes them happen once, the epoch refuses
    // those of a start that was overtaken.
    return { algorithm, rounds, checksum: digest.toString('hex'), job_id, epoch };
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
