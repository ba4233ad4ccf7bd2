// Lanes and workers by name: rows that are made once and never change, so every process keeps what it has read.
// Invariant: an id, once given to a name, means that name for ever; the memory can be incomplete, never wrong.
// Next room: domain/heads.ts, which knows which lanes hold something.
import type { Db } from './db.ts';
import { sql } from './sql.ts';

export interface Lane {
  id: number;
  queue: string;
  route: string;
}

/** Lanes known to this process; asks the database for the rest. */
export class Lanes {
  #db: Db;
  #byId = new Map<number, Lane>();
  #byName = new Map<string, Lane>();
  #making = new Map<string, Promise<Lane>>();

  constructor(db: Db) {
    this.#db = db;
  }

  /** The lane of a queue and type if this process has met it: the hot path of a submit. */
  known(queue: string, route: string): Lane | undefined {
    return this.#byName.get(`${queue}/${route}`);
  }

  /** The lane of a queue and type, made on first use: a queue named for the first time exists. */
  async named(queue: string, route: string): Promise<Lane> {
    return (
      this.known(queue, route) ?? once(this.#making, `${queue}/${route}`, () => this.#make(queue, route))
    );
  }

  /** The lane of an id. */
  async get(id: number): Promise<Lane> {
    return this.#byId.get(id) ?? this.#keep(await this.#db.one(laneOfId, [id]));
  }

  /** The lane of an id that a statement has just named, if this process has met it. */
  peek(id: number): Lane | undefined {
    return this.#byId.get(id);
  }

  /** Reads lanes made elsewhere. Ids are given before their rows commit, so it looks a little behind the highest. */
  async refresh(): Promise<void> {
    const highest = Math.max(0, ...this.#byId.keys());
    for (const lane of await this.#db.many(listLanes, [highest - 1_000])) this.#keep(lane);
  }

  /** Whether this process has met a lane of a queue. */
  hasQueue(queue: string): boolean {
    for (const lane of this.#byId.values()) if (lane.queue === queue) return true;
    return false;
  }

  get count(): number {
    return this.#byId.size;
  }

  all(): Iterable<Lane> {
    return this.#byId.values();
  }

  async #make(queue: string, route: string): Promise<Lane> {
    await this.#db.many(makeLane, [0, queue, route]);
    return this.#keep(await this.#db.one(findLane, [0, queue, route]));
  }

  #keep(lane: Lane): Lane {
    this.#byId.set(lane.id, lane);
    this.#byName.set(`${lane.queue}/${lane.route}`, lane);
    return lane;
  }
}

/** Workers known to this process, by name and by id. */
export class Workers {
  #db: Db;
  #ids = new Map<string, number>();
  #names = new Map<number, string>();
  #making = new Map<string, Promise<number>>();

  constructor(db: Db) {
    this.#db = db;
  }

  /** The id of a worker's name, made on first use. */
  async named(name: string): Promise<number> {
    return this.#ids.get(name) ?? once(this.#making, name, () => this.#make(name));
  }

  /** The name behind a worker's id; null when there is none. */
  async nameOf(id: number | null): Promise<string | null> {
    if (id === null) return null;
    if (!this.#names.has(id)) {
      const row = await this.#db.maybeOne(nameOfWorker, [id]);
      if (row !== undefined) this.#keep(id, row.name);
    }
    return this.#names.get(id) ?? null;
  }

  async #make(name: string): Promise<number> {
    await this.#db.many(makeWorker, [0, name]);
    const { id } = await this.#db.one(findWorker, [0, name]);
    this.#keep(id, name);
    return id;
  }

  #keep(id: number, name: string): void {
    // Names come from callers: forget all of them rather than grow without bound.
    if (this.#ids.size >= 10_000) {
      this.#ids.clear();
      this.#names.clear();
    }
    this.#ids.set(name, id);
    this.#names.set(id, name);
  }
}

/** A thousand callers who name the same new thing at once ask for it once. */
function once<T>(making: Map<string, Promise<T>>, key: string, make: () => Promise<T>): Promise<T> {
  const underWay = making.get(key) ?? make().finally(() => making.delete(key));
  making.set(key, underWay);
  return underWay;
}

export const makeLane = sql<never>`
insert into errand.lane (tenant, queue, route) values ($1, $2, $3) on conflict do nothing`;
export const findLane = sql<Lane>`
select id, queue, route from errand.lane where tenant = $1 and queue = $2 and route = $3`;
export const laneOfId = sql<Lane>`select id, queue, route from errand.lane where id = $1`;
export const listLanes = sql<Lane>`select id, queue, route from errand.lane where id > $1 order by id`;
export const makeWorker = sql<never>`
insert into errand.worker (tenant, name) values ($1, $2) on conflict do nothing`;
export const findWorker = sql<{ id: number }>`select id from errand.worker where tenant = $1 and name = $2`;
export const nameOfWorker = sql<{ name: string }>`select name from errand.worker where id = $1`;
