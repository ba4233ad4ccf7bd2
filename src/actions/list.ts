// Lists jobs, page by page: chooses the walk that reads least, and remembers in a sealed cursor where it stopped.
// Invariants: a walk meets every job that fits from its first page to its last, and none twice unless it left the list and
// came back; the work of one page is bounded, so a page may be short, and only a missing cursor is the end.
// Next room: store/lists.ts, the walks; domain/listing.ts, the orders.

import { isTerminal } from '../domain/job.ts';
import { type Filter, type Order, orderOf, questionOf } from '../domain/listing.ts';
import { routesOf, typeOf } from '../domain/options.ts';
import { most_looked, nextPage, pageFrom } from '../domain/page.ts';
import type { NamedFacts } from '../domain/record.ts';
import { tenant } from '../domain/tenant.ts';
import type { Pool } from '../store/db.ts';
import type { JobFacts } from '../store/jobs.ts';
import {
  allLanes,
  blocked,
  idsBetween,
  type Lane,
  lanesOfQueue,
  lanesOfType,
  newest,
  newestOfLanes,
  newestOfTag,
  queued,
  running,
  succeeded,
  unhappy,
  unhappyOfLanes,
  type Walked,
  waiting,
} from '../store/lists.ts';
import { numbers, type Statement } from '../store/sql.ts';

/** A page of a list; `next_cursor` null = there is no more. */
export interface Page {
  items: NamedFacts[];
  next_cursor: string | null;
}

export interface List {
  /** At most `limit` jobs that fit, from the beginning or from where a cursor of the same question points. */
  page(filter: Filter, limit: number, cursor?: string): Promise<Page>;
}

/** Keys a walk over several lanes reads to put them in order, together. */
const most_ahead = 4_000;
/** Up to so many lanes are walked lane by lane; where there are more, all jobs are. */
const most_lanes = 2_000;

const beforeAll: Readonly<Record<Order, readonly string[]>> = {
  newest: ['9223372036854775807'],
  turn: ['-1', '0', '0'],
  lease: ['0', '0'],
  due: ['-infinity', '0'],
};

/** A walk: its statement, how many rows it looks at, and its own parameters. */
type Walk = readonly [statement: Statement<Walked>, looked: number, params: readonly unknown[]];

/** What a walk came to; `rest` is the key up to which the list is known, null = to its end. */
interface Found {
  rows: (JobFacts & { key: string[] })[];
  rest: string[] | null;
}

export function listing(options: {
  db: Pool;
  named: (facts: JobFacts) => Promise<NamedFacts>;
  secret: Buffer;
  /** By how much ids may be out of the order of their times: what a transaction may last. */
  overlap_seconds: number;
}): List {
  const { db, named, secret, overlap_seconds } = options;

  return {
    async page(filter, limit, cursor) {
      const question = questionOf(tenant, filter);
      const from = pageFrom(cursor, beforeAll[orderOf(filter)], question, secret);
      const { rows, rest } = await find(filter, from, limit);
      const items = await Promise.all(rows.slice(0, limit).map(named));
      const key = rows.length > limit ? (rows[limit - 1]?.key ?? null) : rest;
      return { items, next_cursor: nextPage(key, question, secret) };
    },
  };

  /** One job more than asked for, to know whether there is more; or what the walk that came furthest found. */
  async function find(filter: Filter, from: readonly string[], limit: number): Promise<Found> {
    const { queue, type, state, tag, error_class, created_after, created_before } = filter;
    const asked = [queue, type, state, tag, error_class, created_after, created_before, limit + 1];
    let best: Found = { rows: [], rest: null };
    for (const [statement, looked, params] of await walksOf(filter, from, limit)) {
      const found = foundBy(await db.many(statement, [...asked, looked, ...params]), looked);
      if (found.rows.length > limit || found.rest === null) return found;
      if (best.rest === null || BigInt(found.rest[0] as string) < BigInt(best.rest[0] as string))
        best = found;
    }
    return best;
  }

  /** The walks that meet every job that fits. Of several, all by id, the first is likely the shortest. */
  async function walksOf(filter: Filter, from: readonly string[], limit: number): Promise<Walk[]> {
    const { state, tag } = filter;
    const order = orderOf(filter);
    const lanes = await lanesOf(filter, order);
    // A name nobody has used has no jobs.
    if (lanes?.length === 0) return [];
    const few = lanes !== null && lanes.length <= most_lanes ? lanes : null;
    const ids = lanes === null ? null : numbers(lanes.map((lane) => lane.id));
    const ahead = isSifted(filter, lanes ?? []) ? Math.floor(most_ahead / (lanes?.length ?? 1)) : 0;
    const looked = Math.max(limit + 1, Math.min(most_looked, ahead));
    if (order === 'lease') return [[running, most_looked, [...from, ids]]];
    if (order === 'turn') return [[queued, looked, [...from, ids]]];
    if (order === 'due') return [[waiting, looked, [...from, ids]]];
    const [below, floor] = await idsOf(filter, from[0] as string);
    const walks: Walk[] = [];
    if (tag !== undefined) walks.push([newestOfTag, most_looked, [below, floor]]);
    if (state === 'blocked') return [[blocked, most_looked, [below, floor, ids]]];
    if (state === 'succeeded') walks.push([succeeded, most_looked, [below, floor, ids]]);
    if (state !== undefined && state !== 'succeeded' && isTerminal(state)) {
      if (few === null) walks.push([unhappy, most_looked, [below, floor]]);
      else walks.push([unhappyOfLanes, looked, [below, floor, ids]]);
    } else if (few !== null) walks.push([newestOfLanes, looked, [below, floor, ids]]);
    return walks.length > 0 ? walks : [[newest, most_looked, [below, floor]]];
  }

  /** The lanes in which jobs that fit may stand; null = any, where the walk does not go lane by lane. */
  async function lanesOf({ queue, type }: Filter, order: Order): Promise<Lane[] | null> {
    const routes = type === undefined ? null : routesOf(type);
    if (queue !== undefined) return db.many(lanesOfQueue, [tenant, queue, routes]);
    if (type !== undefined) return db.many(lanesOfType, [tenant, routes]);
    return order === 'turn' || order === 'due' ? db.many(allLanes, [tenant]) : null;
  }

  /** Ids follow times but for transactions that overlap, so the ids are a little more than the times. */
  async function idsOf({ created_after, created_before }: Filter, below: string): Promise<[string, string]> {
    if (created_after === undefined && created_before === undefined) return [below, '0'];
    const { floor, ceiling } = await db.one(idsBetween, [created_after, created_before, overlap_seconds]);
    return [ceiling !== null && BigInt(ceiling) < BigInt(below) ? ceiling : below, floor];
  }
}

/** Whether jobs of these lanes may be passed over for what else was asked. */
function isSifted({ type, state, tag, error_class, created_after, created_before }: Filter, lanes: Lane[]) {
  return (
    tag !== undefined ||
    error_class !== undefined ||
    state === 'succeeded' ||
    created_after !== undefined ||
    created_before !== undefined ||
    (type !== undefined && lanes.some((lane) => typeOf(lane.route) !== type))
  );
}

function foundBy(walked: readonly Walked[], looked: number): Found {
  const last = walked.at(-1);
  const rows = walked.filter((row) => row.id !== null);
  return { rows, rest: last?.looked === looked ? last.key : null };
}
