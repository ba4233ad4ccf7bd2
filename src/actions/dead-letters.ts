// Dead letters: lists and groups them, page by page, the latest death first; redrives or discards one.
// Invariants: a walk meets every letter that fits from its first page to its last; the work of one page is bounded, so a
// page may be short, and only a missing cursor is the end; a lever is in the audit or was not pulled.
// Next room: store/dead-letters.ts, the walks; redrive.ts, for one or for many.
import type { By } from '../domain/actor.ts';
import { type Letter, type LetterFilter, type LetterGroup, letterQuestion } from '../domain/dead-letter.ts';
import { routesOf, typeOf } from '../domain/options.ts';
import { most_looked, nextPage, pageFrom } from '../domain/page.ts';
import { tenant } from '../domain/tenant.ts';
import type { EventBus } from '../events.ts';
import { audit } from '../store/audit.ts';
import type { Pool } from '../store/db.ts';
import {
  discardLetters,
  findDecision,
  type LetterGroup as Grouped,
  groupsOfAll,
  groupsOfCause,
  groupsOfLanes,
  letters,
  lettersOfCause,
  lettersOfLanes,
  type WalkedLetter,
} from '../store/dead-letters.ts';
import type { Lanes } from '../store/lanes.ts';
import { lanesOfQueue, lanesOfType } from '../store/lists.ts';
import type { Redriven, Redrives, Redriving } from './redrive.ts';

/** A page of letters; `next_cursor` null = there is no more. */
export interface LetterPage {
  items: Letter[];
  next_cursor: string | null;
}

/** Groups of letters, the largest first; `exact` false: there are more letters than were looked at, or more groups. */
export interface LetterGroups {
  groups: LetterGroup[];
  looked: number;
  exact: boolean;
}

/** What is decided about a dead job. */
export interface Decision {
  listed: boolean;
  discarded: boolean;
  redriven_as: string | null;
}

export interface DeadLetters {
  page(filter: LetterFilter, limit: number, cursor?: string): Promise<LetterPage>;
  groups(filter: LetterFilter, limit: number): Promise<LetterGroups>;
  /** Letters behind a place in the walk, so many rows of it looked at: for who goes through all of them. */
  walk(filter: LetterFilter, from: LetterKey | null, looked: number): Promise<LetterWalk>;
  decision(job_id: string): Promise<Decision>;
  redrive(job_id: string, wish: Redriving, reason: string | null, by: By): Promise<Redriven>;
  /** Whether the letter has left the list, by this call or before; false: there is none. */
  discard(job_id: string, reason: string | null, by: By): Promise<boolean>;
}

/** A place in a walk: time of death and id. */
export type LetterKey = readonly string[];

/** What a walk came to; `rest`: the place up to which the list is known, null = to its end. */
export interface LetterWalk {
  rows: (WalkedLetter & { job_id: string })[];
  rest: LetterKey | null;
}

/** Rows one answer of groups looks at, at most. */
const most_grouped = 10_000;
/** Rows read ahead of several lanes, together; up to so many lanes are walked lane by lane. */
const most_ahead = 20_000;
const most_lanes = 2_000;

/** Every id is below it. */
const aboveAll = '9223372036854775807';

export function deadLettering(options: {
  db: Pool;
  lanes: Lanes;
  redrives: Redrives;
  events: EventBus;
  secret: Buffer;
}): DeadLetters {
  const { db, lanes, redrives, events, secret } = options;

  /** The lanes in which letters that fit may stand; null = any. */
  async function lanesOf({ queue, type }: LetterFilter): Promise<number[] | null> {
    const routes = type === undefined ? null : routesOf(type);
    if (queue !== undefined)
      return (await db.many(lanesOfQueue, [tenant, queue, routes])).map(({ id }) => id);
    if (type !== undefined) return (await db.many(lanesOfType, [tenant, routes])).map(({ id }) => id);
    return null;
  }

  /** The parameters of every walk, and which one reads least. */
  async function asked(filter: LetterFilter, from: LetterKey | null, looked: number) {
    const { fingerprint, error_class, source, http_status, tag, died_after, died_before } = filter;
    const ids = await lanesOf(filter);
    const start = from ?? (died_before === undefined ? ['infinity', aboveAll] : [died_before, '0']);
    const walk =
      fingerprint !== undefined ? 'cause' : ids !== null && ids.length <= most_lanes ? 'lanes' : 'all';
    const rows =
      walk === 'lanes' ? Math.min(looked, Math.ceil(most_ahead / Math.max(1, ids?.length ?? 1))) : looked;
    const params = [
      ...[...start, died_after ?? '-infinity', rows],
      ...[fingerprint, ids, error_class, source, http_status, tag],
    ];
    return { walk, params, rows, isEmpty: ids?.length === 0 } as const;
  }

  async function walk(filter: LetterFilter, from: LetterKey | null, looked: number, most = looked) {
    const { walk, params, rows, isEmpty } = await asked(filter, from, looked);
    if (isEmpty) return { rows: [], rest: null };
    const statement = { all: letters, cause: lettersOfCause, lanes: lettersOfLanes }[walk];
    const found = await db.many(statement, [...params, most]);
    const last = found.at(-1);
    const isCut = last?.looked === rows || found.length === most;
    return {
      rows: found.filter((row) => row.job_id !== null) as LetterWalk['rows'],
      rest: isCut ? (last as WalkedLetter).key : null,
    };
  }

  const nameOf = async (lane: number) => lanes.peek(lane) ?? (await lanes.get(lane));

  async function letterOf(row: LetterWalk['rows'][number]): Promise<Letter> {
    const { queue, route } = await nameOf(row.lane);
    const { job_id, died_at, fingerprint, attempt, max_attempts, epoch, created_at } = row;
    return {
      ...{ job_id, queue, type: typeOf(route), died_at },
      ...{
        class: row.class,
        source: row.source,
        http_status: row.http_status,
        fingerprint,
        detail: row.error,
      },
      ...{ attempt, max_attempts, epoch, created_at, tags: row.tags ?? [] },
    };
  }

  return {
    async page(filter, limit, cursor) {
      const question = letterQuestion(tenant, filter);
      const from = cursor === undefined ? null : pageFrom(cursor, [], question, secret);
      const { rows, rest } = await walk(filter, from, most_looked, limit + 1);
      const items = await Promise.all(rows.slice(0, limit).map(letterOf));
      const key = rows.length > limit ? (rows[limit - 1]?.key ?? null) : rest;
      return { items, next_cursor: nextPage(key, question, secret) };
    },

    async groups(filter, limit) {
      const { walk, params, rows, isEmpty } = await asked(filter, null, most_grouped);
      if (isEmpty) return { groups: [], looked: 0, exact: true };
      const statement = { all: groupsOfAll, cause: groupsOfCause, lanes: groupsOfLanes }[walk];
      const found = await db.many(statement, [...params, limit + 1]);
      const { looked } = found[0] as Grouped;
      const listed = found.filter((group) => group.job_id !== null) as (Grouped & { job_id: string })[];
      const groups = await Promise.all(
        listed.slice(0, limit).map(async ({ lanes: ids, job_id, error, looked: _, ...group }) => {
          const named = await Promise.all(ids.map(nameOf));
          const queues = [...new Set(named.map(({ queue }) => queue))].sort();
          const type = typeOf(named[0]?.route ?? '');
          return { ...group, queues, type, sample: { job_id, detail: error } };
        }),
      );
      return { groups, looked, exact: looked < rows && listed.length <= limit };
    },

    walk,

    async decision(job_id) {
      const { listed, discarded_by, redriven_as } = await db.one(findDecision, [job_id]);
      return { listed, discarded: discarded_by !== null, redriven_as };
    },

    async redrive(job_id, wish, reason, by) {
      const { answer, tell } = await db.transaction(async (tx) => {
        const { redriven, tell } = await redrives.within(tx, [job_id], wish);
        const answer = redriven[0] as Redriven;
        if (answer.kind === 'made') {
          const facts = { ...wish, redriven_as: answer.id };
          await audit(tx, by, { action: 'dead_letter.redrive', target: job_id, reason, facts });
        }
        return { answer, tell };
      });
      await tell();
      return answer;
    },

    async discard(job_id, reason, by) {
      const discarded = await db.transaction(async (tx) => {
        const [letter] = await discardLetters(tx, [job_id], '0');
        if (letter !== undefined) {
          await audit(tx, by, { action: 'dead_letter.discard', target: job_id, reason });
        }
        return letter;
      });
      if (discarded === undefined) return (await db.one(findDecision, [job_id])).discarded_by !== null;
      events.emit('jobs.moved', { jobs: 1, from: { lane: discarded.lane, state: 'dead' }, to: null });
      return true;
    },
  };
}
