// The port to Postgres: small pools with a timeout on everything, and one way to run a transaction.
// Invariants: those who wait for a connection are few and wait shortly; a connection that failed below SQL is never reused; a connection is never given back inside an open
// transaction; a caller learns whether a failed statement may have taken effect.
// Next room: the statements of inserts.ts, jobs.ts, claims.ts and endings.ts.
import pg from 'pg';
import { Problem } from '../domain/problem.ts';
import { type Breaker, breaker } from './breaker.ts';
import { startupOptions, type Way } from './session.ts';
import type { Statement } from './sql.ts';
import { Turns } from './turns.ts';

/** What runs statements: a pool, or one connection inside a transaction. */
export interface Db {
  many<Row>(statement: Statement<Row>, params?: readonly unknown[]): Promise<Row[]>;
  maybeOne<Row>(statement: Statement<Row>, params?: readonly unknown[]): Promise<Row | undefined>;
  one<Row>(statement: Statement<Row>, params?: readonly unknown[]): Promise<Row>;
  /** Runs `work` in one READ COMMITTED transaction; `work` must use the Db it is given. */
  transaction<T>(work: (db: Db) => Promise<T>): Promise<T>;
}

export interface Pool extends Db {
  readonly name: string;
  /** The row of a statement, from a connection that is given up where `fault` finds one in it; then it throws that. */
  sound<Row>(statement: Statement<Row>, fault: (row: Row) => string | null): Promise<Row>;
  /** The same pool for a crowd: at most `most` of its connections at once, so that the others stay free. */
  share(most: number): Pool;
  /** Connections open, idle, and callers waiting for one. */
  counts(): { open: number; idle: number; waiting: number };
  end(): Promise<void>;
}

/** A query the server refused: the SQLSTATE tells why. */
export function sqlState(error: unknown): string | undefined {
  if (error instanceof DatabaseLost) return sqlState(error.cause);
  return error instanceof pg.DatabaseError ? error.code : undefined;
}

/** The database could not be reached or did not answer in time; `sent` says whether the statement may have run. */
export class DatabaseLost extends Problem {
  readonly sent: boolean;
  constructor(sent: boolean, cause: unknown) {
    super('database-unavailable', {
      detail: 'the database did not answer in time; try again',
      headers: { 'retry-after': '2' },
      cause,
    });
    this.sent = sent;
  }
}

export interface PoolOptions {
  name: string;
  max: number;
  way: Way;
  /** Shared by pools that lead to one server; absent: one of its own. */
  breaker?: Breaker;
  onError: (error: Error) => void;
}

/** A pool whose every wait is bounded. Throws {@link DatabaseLost} when the database cannot be reached. */
export function openPool(options: PoolOptions): Pool {
  const { url, pooled, settings } = options.way;
  const pool = new pg.Pool({
    Client: (options.breaker ?? breaker()).Client,
    connectionString: url,
    max: options.max,
    application_name: `errand ${options.name}`,
    connectionTimeoutMillis: 2_000,
    // The server gives up a statement first; this is for a server that does not answer.
    query_timeout: Number(settings.statement_timeout) + 1_000,
    keepAlive: true,
    keepAliveInitialDelayMillis: 10_000,
    types: { getTypeParser },
    idleTimeoutMillis: 60_000,
    maxLifetimeSeconds: 1_800 + Math.floor(Math.random() * 300),
    ...(pooled ? {} : { options: startupOptions(settings) }),
  });
  pool.on('error', options.onError);
  pool.on('connect', (client) => {
    client.on('error', options.onError);
  });
  const query = querying(!pooled);
  // Before the pool's own line, which knows no bound.
  const turns = new Turns(options.max, most_waiting);
  const lines = [turns];
  const within = <T>(work: (client: pg.PoolClient) => Promise<T>) =>
    turns.run(() => onConnection(pool, work));

  const viewOf = (run: typeof within): Pool => ({
    name: options.name,
    ...running((statement, params) => run((client) => query(client, statement, params))),
    sound: (statement, fault) =>
      run(async (client) => {
        const [row] = await query(client, statement);
        const wrong = row === undefined ? 'postgres answered nothing' : fault(row);
        if (row === undefined || wrong !== null) throw new DatabaseLost(false, new Error(wrong ?? ''));
        return row;
      }),
    transaction: (work) => run((client) => inTransaction(client, query, work)),
    share(most) {
      const ours = new Turns(Math.min(most, options.max), most_waiting);
      lines.push(ours);
      return viewOf((work) => ours.run(() => run(work)));
    },
    counts: () => ({
      open: pool.totalCount,
      idle: pool.idleCount,
      waiting: lines.reduce((sum, { waiting }) => sum + waiting, 0),
    }),
    end: () => pool.end(),
  });
  return viewOf(within);
}

/** Callers that may wait for a connection of one pool. */
const most_waiting = 1_000;

// Rows of one answer repeat their times (every job of a lease started together), and parsing a date costs more than the
// rest of a row. The dates are shared, so nobody may change one.
const dates = new Map<string, Date>();
const parseDate = pg.types.getTypeParser(pg.types.builtins.TIMESTAMPTZ) as (text: string) => Date;

function rememberedDate(text: string): Date {
  let date = dates.get(text);
  if (date === undefined) {
    if (dates.size >= 64) dates.clear();
    date = parseDate(text);
    dates.set(text, date);
  }
  return date;
}

const getTypeParser = ((oid: number, format?: 'text' | 'binary') =>
  oid === pg.types.builtins.TIMESTAMPTZ && format !== 'binary'
    ? rememberedDate
    : pg.types.getTypeParser(oid, format)) as typeof pg.types.getTypeParser;

type Run = <Row>(statement: Statement<Row>, params?: readonly unknown[]) => Promise<Row[]>;

function running(run: Run): Omit<Db, 'transaction'> {
  return {
    many: run,
    maybeOne: async (statement, params) => (await run(statement, params))[0],
    async one(statement, params) {
      const row = (await run(statement, params))[0];
      if (row === undefined) throw new Error(`no row from: ${statement.text.slice(0, 80)}`);
      return row;
    },
  };
}

async function onConnection<T>(pool: pg.Pool, work: (client: pg.PoolClient) => Promise<T>): Promise<T> {
  let client: pg.PoolClient;
  try {
    client = await pool.connect();
  } catch (error) {
    if (sqlState(error)?.startsWith('28')) throw error;
    throw new DatabaseLost(false, error);
  }
  let broken: Error | undefined;
  try {
    return await work(client);
  } catch (error) {
    if (isLost(error)) {
      broken = error as Error;
      throw error instanceof DatabaseLost ? error : new DatabaseLost(true, error);
    }
    if (isBusy(error)) throw new DatabaseLost(false, error);
    throw error;
  } finally {
    client.release(broken);
  }
}

type Query = <Row>(
  client: pg.ClientBase,
  statement: Statement<Row>,
  params?: readonly unknown[],
) => Promise<Row[]>;

/** What is prepared under a name stays with its session: kept only where a connection has one to itself. */
function querying(keepsPrepared: boolean): Query {
  return async <Row>(client: pg.ClientBase, { text, name }: Statement<Row>, params?: readonly unknown[]) => {
    const config: pg.QueryConfig = { text, values: (params ?? []) as unknown[] };
    if (keepsPrepared && name !== undefined) config.name = name;
    return (await client.query(config)).rows as Row[];
  };
}

async function inTransaction<T>(
  client: pg.PoolClient,
  query: Query,
  work: (db: Db) => Promise<T>,
): Promise<T> {
  const db: Db = {
    ...running((statement, params) => query(client, statement, params)),
    transaction: () => Promise.reject(new Error('a transaction cannot hold another')),
  };
  await client.query('begin');
  try {
    const result = await work(db);
    await client.query('commit');
    return result;
  } catch (error) {
    if (!isLost(error)) await client.query('rollback');
    throw error;
  }
}

/** The server took the statement back: it timed out, lost a race for locks, or ran out of a resource. */
function isBusy(error: unknown): boolean {
  return /^(55P03|57014|40001|40P01|53)/.test(sqlState(error) ?? '');
}

/** Anything but an error the server sent for this statement leaves the connection in an unknown state. */
function isLost(error: unknown): boolean {
  // A Problem that a transaction throws is a decision; its words may be anything.
  if (error instanceof Problem) return error instanceof DatabaseLost;
  const state = sqlState(error);
  if (state !== undefined) return /^(08|57P0|25006)/.test(state);
  return (
    error instanceof Error &&
    /timeout|terminated|ECONN|EPIPE|socket|Connection|not queryable/i.test(error.message)
  );
}
