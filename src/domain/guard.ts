// Whether a queue takes more jobs: it closes at its limit and opens again when it is well below, so that it does not flap;
// who is refused is told when that will be, by what really goes out and comes in.
// Next room: actions/guards.ts.

/** The limits of a queue; null: none. */
export interface GuardLimits {
  readonly max_depth: number | null;
  readonly max_oldest_age_seconds: number | null;
}

/** What is compared with them. */
export interface Backlog {
  /** Ready jobs. */
  readonly queued: number;
  readonly oldest_age_ms: number | null;
}

/** Which limit holds a queue closed. */
export type Limit = 'max_depth' | 'max_oldest_age_seconds';

/** A queue that is closed opens when it is at this share of its limits. */
export const opens_at = 0.8;

/** The limit that closes a queue, or keeps it closed; null: it is open. */
export function closedBy(limits: GuardLimits, backlog: Backlog, wasClosed: boolean): Limit | null {
  const age = (backlog.oldest_age_ms ?? 0) / 1_000;
  if (limits.max_depth !== null && isOver(backlog.queued, limits.max_depth, wasClosed)) return 'max_depth';
  const { max_oldest_age_seconds: oldest } = limits;
  return oldest !== null && isOver(age, oldest, wasClosed) ? 'max_oldest_age_seconds' : null;
}

function isOver(value: number, limit: number, wasClosed: boolean): boolean {
  return wasClosed ? value > limit * opens_at : value >= limit;
}

/** Said where nothing goes out faster than it comes in. */
const unknown_seconds = 60;
const longest_seconds = 3_600;

/** In how many s a queue opens, at the rates at which ready jobs go out and come in, each second. */
export function opensInSeconds(
  limits: GuardLimits,
  backlog: Backlog,
  rates: { readonly out: number; readonly in: number },
): number {
  const waits = [depthWait(limits, backlog, rates), ageWait(limits, backlog, rates)];
  return Math.min(longest_seconds, Math.max(1, Math.ceil(Math.max(...waits))));
}

function depthWait(
  { max_depth }: GuardLimits,
  { queued }: Backlog,
  rates: { out: number; in: number },
): number {
  if (max_depth === null) return 0;
  const over = queued - Math.floor(max_depth * opens_at);
  if (over <= 0) return 0;
  const net = rates.out - rates.in;
  return net > 0 ? over / net : unknown_seconds;
}

/** Takes the ages of those that wait to be spread evenly: the head moves down them, while all of them grow older. */
function ageWait(
  { max_oldest_age_seconds: oldest }: GuardLimits,
  backlog: Backlog,
  rates: { out: number },
): number {
  const age = (backlog.oldest_age_ms ?? 0) / 1_000;
  if (oldest === null || age <= oldest * opens_at) return 0;
  const younger = (age * rates.out) / Math.max(1, backlog.queued) - 1;
  return younger > 0 ? (age - oldest * opens_at) / younger : unknown_seconds;
}
