// A dead letter: a job that died and about which nobody has decided yet, as it is listed and grouped.
// Invariant: what is told of a letter is what its last attempt ended with.
// Next room: actions/dead-letters.ts, which finds them.
import type { ErrorClass, ErrorSource } from './outcome.ts';

/** Which letters: every member that is there must fit. Times are RFC 3339 text. */
export interface LetterFilter {
  readonly queue?: string | undefined;
  readonly type?: string | undefined;
  readonly error_class?: ErrorClass | undefined;
  readonly source?: ErrorSource | undefined;
  readonly http_status?: number | undefined;
  readonly fingerprint?: string | undefined;
  readonly tag?: string | undefined;
  /** At this moment or later. */
  readonly died_after?: string | undefined;
  /** Before this moment. */
  readonly died_before?: string | undefined;
}

/** A letter in the list. */
export interface Letter {
  job_id: string;
  queue: string;
  type: string;
  died_at: Date;
  class: ErrorClass | null;
  source: ErrorSource | null;
  http_status: number | null;
  fingerprint: string | null;
  detail: string | null;
  attempt: number;
  max_attempts: number;
  epoch: number;
  created_at: Date;
  tags: string[];
}

/** Letters of one cause; `job_id` and `detail` are those of the latest. */
export interface LetterGroup
  extends Pick<Letter, 'fingerprint' | 'type' | 'class' | 'source' | 'http_status'> {
  count: number;
  queues: string[];
  first_died_at: Date;
  last_died_at: Date;
  sample: Pick<Letter, 'job_id' | 'detail'>;
}

/** The question as one text: the same for the same question, another for any other. */
export function letterQuestion(tenant: number, filter: LetterFilter): string {
  const { queue, type, error_class, source, http_status, fingerprint, tag, died_after, died_before } = filter;
  const asked = [queue, type, error_class, source, http_status, fingerprint, tag, died_after, died_before];
  return JSON.stringify(['dead-letters', tenant, ...asked.map((one) => one ?? null)]);
}
