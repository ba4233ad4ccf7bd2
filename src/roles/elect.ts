// Decides whether this process leads. It renews its term at every fifth of it and stops believing in it at two thirds
// without a renewal, measured by the monotonic clock from before the renewal was sent: long before the term can have begun
// elsewhere, and whether the database answers or not.
// Invariant: `term()` is null unless the last renewal is younger than the trust window. Where that is not enough, as in a
// process that was frozen between two lines, the term is tested by the database in each transaction (store/leader.ts).
// Next room: actions/lead.ts; chores.ts, whose leader's chores start and stop with the office.
import type { Lead } from '../actions/lead.ts';
import { loop } from './loop.ts';
import type { Service } from './service.ts';

export interface Candidate extends Service {
  /** The term this process holds and may act in; null: none. */
  term(): string | null;
  /** The database has said that the term is over. */
  lose(why: string): void;
  /** Seconds since the office was last looked at with success. */
  age(): number;
}

export interface Election {
  lead: Lead;
  term_ms: number;
  onElected: (term: string) => void;
  onLost: (term: string, why: string) => void;
  onError: (name: string, error: unknown) => void;
}

/** How soon a free room is noticed by those who wait for it, in ms; also the longest pause after a failure. */
const look_ms = 1_000;

const tooLate = 'it could not be renewed in time';

export function electing({ lead, term_ms, onElected, onLost, onError }: Election): Candidate {
  const trust_ms = (term_ms * 2) / 3;
  let office: { term: string; trusted_until: number } | null = null;
  let doubt: NodeJS.Timeout | undefined;

  function trust(term: string, since: number): void {
    office = { term, trusted_until: since + trust_ms };
    clearTimeout(doubt);
    doubt = setTimeout(() => lose(tooLate), Math.max(0, since + trust_ms - performance.now()));
  }

  function lose(why: string): void {
    clearTimeout(doubt);
    if (office === null) return;
    const { term } = office;
    office = null;
    onLost(term, why);
  }

  const isTrusted = () => office !== null && performance.now() < office.trusted_until;

  /** Answers in how many ms to look again. */
  async function hold(): Promise<number | undefined> {
    const began = performance.now();
    if (office !== null) {
      const { term } = office;
      if (await lead.renew(term)) {
        // The answer may come when the term was given up already, or is by the clock: then it stays given up.
        if (isTrusted()) trust(term, began);
        else {
          lose(tooLate);
          await lead.resign(term);
        }
        return undefined;
      }
      lose('another term has begun, or could have');
    }
    const leader = await lead.leader();
    if (leader?.is_free === false) return Math.min(look_ms, leader.left_ms + 1);
    const asked = performance.now();
    const term = await lead.campaign();
    if (term === null) return look_ms;
    trust(term, asked);
    if (isTrusted()) onElected(term);
    return undefined;
  }

  const looking = loop({
    name: 'elect',
    every_ms: term_ms / 5,
    longest_pause_ms: look_ms,
    run: hold,
    onError,
  });
  return {
    name: 'elect',
    start: () => looking.start(),
    async stop(deadline) {
      await looking.stop(deadline);
      const term = office?.term;
      lose('this process stops');
      // Another may begin at once instead of waiting for the end of the term.
      if (term !== undefined) await lead.resign(term).catch((error) => onError('elect', error));
    },
    term: () => (isTrusted() ? (office?.term ?? null) : null),
    lose(why) {
      lose(why);
      looking.wake();
    },
    age: () => (performance.now() - looking.last_success) / 1_000,
  };
}
