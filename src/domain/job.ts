// What a job is, as far as everybody must agree: its states, who may move them, its names, its id and its ETag.
// Guards: a terminal state never changes, and text that cannot be an id never reaches the database.
// Next room: domain/outcome.ts says what a job at its end answers.

const openStates = ['blocked', 'scheduled', 'queued', 'running', 'retrying'] as const;

/** The states a job never leaves (docs/contract.md, States). */
export const terminalStates = ['succeeded', 'dead', 'cancelled', 'expired'] as const;

/** Every state of a job, open ones first. */
export const jobStates = [...openStates, ...terminalStates] as const;

/** A state from which a job still moves. */
export type OpenState = (typeof openStates)[number];

/** A state a job never leaves. */
export type TerminalState = (typeof terminalStates)[number];

/** A state of a job. */
export type JobState = OpenState | TerminalState;

/** Something that happens to a job and may move it. */
export type JobEvent =
  | 'unblocked'
  | 'unblocked_later'
  | 'parent_failed'
  | 'due'
  | 'parked'
  | 'claimed'
  | 'completed'
  | 'failed'
  | 'spent'
  | 'released'
  | 'lost'
  | 'cancelled'
  | 'cancel_honoured'
  | 'expired';

/** Who may move a job where: the table in docs/contract.md, States; what is not listed cannot happen. */
export const transitions: Readonly<Record<JobState, Readonly<Partial<Record<JobEvent, JobState>>>>> = {
  blocked: {
    unblocked: 'queued',
    unblocked_later: 'scheduled',
    parent_failed: 'cancelled',
    cancelled: 'cancelled',
    expired: 'expired',
  },
  scheduled: { due: 'queued', parked: 'blocked', cancelled: 'cancelled', expired: 'expired' },
  queued: { claimed: 'running', cancelled: 'cancelled', expired: 'expired' },
  running: {
    completed: 'succeeded',
    failed: 'retrying',
    spent: 'dead',
    released: 'queued',
    lost: 'queued',
    cancel_honoured: 'cancelled',
  },
  retrying: { due: 'queued', parked: 'blocked', cancelled: 'cancelled', expired: 'expired' },
  succeeded: {},
  dead: {},
  cancelled: {},
  expired: {},
};

/** Says where an event moves a job, or null when it cannot happen in that state. */
export function next(state: JobState, event: JobEvent): JobState | null {
  return transitions[state][event] ?? null;
}

/** Tells whether a state is one a job never leaves. */
export function isTerminal(state: JobState): state is TerminalState {
  return (terminalStates as readonly JobState[]).includes(state);
}

/** The form of queue names and job types, 1 to 63 characters (docs/contract.md, Conventions). */
export const namePattern = /^[a-z0-9][a-z0-9._-]{0,62}$/;

/** Tells whether a text can be the name of a queue. */
export function isQueueName(text: string): boolean {
  return namePattern.test(text);
}

/** Tells whether a text can be the type of a job. */
export function isJobType(text: string): boolean {
  return namePattern.test(text);
}

const idPattern = /^[1-9][0-9]{0,18}$/;
const largestId = '9223372036854775807';

/** Tells whether a text can be the id of a job: a decimal from 1 to 2^63-1 without leading zeros. */
export function isJobId(text: string): boolean {
  return idPattern.test(text) && (text.length < largestId.length || text <= largestId);
}

// One letter per state keeps the tag short and the state unguessable to nobody: the tag is opaque, not secret.
const stateLetters: Readonly<Record<JobState, string>> = {
  blocked: 'b',
  scheduled: 's',
  queued: 'q',
  running: 'r',
  retrying: 'y',
  succeeded: 'o',
  dead: 'd',
  cancelled: 'c',
  expired: 'e',
};

/** Writes the strong, opaque ETag of a job, quotes included (docs/contract.md, Conditional requests). */
export function jobEtag(job: {
  readonly state: JobState;
  readonly attempt: number;
  readonly epoch: number;
  readonly cancel_requested?: boolean;
  readonly patches?: number | null;
  readonly progress_seq?: number | null;
}): string {
  const patches = job.patches ? `p${job.patches}` : '';
  const progress = job.progress_seq ? `g${job.progress_seq}` : '';
  const asked = job.cancel_requested === true ? 'x' : '';
  return `"${stateLetters[job.state]}${job.epoch}.${job.attempt}${patches}${progress}${asked}"`;
}
