// The application that owns the data: a small HTTP service over a Postgres schema of its own. It stands for whatever your
// workers call, and shows how an effect happens once although a job may start more than once.
// Invariants: one transaction per slice; a city counts only when its row is new; a start that was overtaken is refused (409).
// Settings: DATABASE_URL, PORT (default 8090). Next room: import_cities.py, which calls it.
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Pool, type PoolClient } from 'pg';

const schema = `
  create schema if not exists atlas;
  create table if not exists atlas.city (
    city_id bigint primary key, name text not null, country text not null, population bigint not null,
    longitude numeric not null, latitude numeric not null);
  -- Sums are effects that show every repetition: an upsert of the same city would hide it, a sum does not.
  create table if not exists atlas.country (
    country text primary key, cities bigint not null, population bigint not null);
  create table if not exists atlas.slice (job_id bigint primary key, epoch int not null, calls int not null);`;

// The fence: a call of an older start finds a newer epoch and changes nothing.
const enter = `
  insert into atlas.slice as known (job_id, epoch, calls) values ($1, $2, 1)
  on conflict (job_id) do update set epoch = excluded.epoch, calls = known.calls + 1
  where known.epoch <= excluded.epoch`;

// The natural key: only rows that were not there are inserted, and only those are added to the sums.
const takeIn = `
  with new as (
    insert into atlas.city
    select * from json_to_recordset($1) as sent (city_id bigint, name text, country text, population bigint,
      longitude numeric, latitude numeric)
    on conflict (city_id) do nothing returning country, population)
  insert into atlas.country as known
  -- In one order, so that two slices never wait for each other.
  select country, count(*), sum(population) from new group by country order by country
  on conflict (country) do update
    set cities = known.cities + excluded.cities, population = known.population + excluded.population`;

interface Slice {
  job_id: string;
  epoch: number;
  cities: readonly unknown[];
}

const pool = new Pool({ connectionString: process.env.DATABASE_URL, max: 4 });
pool.on('error', (error) => console.error('postgres:', error.message));
await pool.query(schema);

const server = createServer((request, response) => {
  answer(request, response).catch((error: Error) => {
    console.error(error.message);
    send(response, 503, { detail: 'try again' });
  });
});
server.listen(Number(process.env.PORT ?? 8090), '127.0.0.1', () => {
  console.log(`the application listens on http://127.0.0.1:${(server.address() as AddressInfo).port}`);
});

async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
  if (request.method !== 'POST' || request.url !== '/slices') return send(response, 404, {});
  const parts: Buffer[] = [];
  for await (const part of request) parts.push(part as Buffer);
  const slice = JSON.parse(Buffer.concat(parts).toString()) as Slice;
  const isTaken = await inTransaction((client) => take(client, slice));
  if (!isTaken) return send(response, 409, { detail: `a start later than ${slice.epoch} has taken over` });
  // The same answer to every repetition: the worker that repeats the call cannot know what the first one was told.
  send(response, 200, { cities: slice.cities.length });
}

async function take(client: PoolClient, { job_id, epoch, cities }: Slice): Promise<boolean> {
  const entered = await client.query(enter, [job_id, epoch]);
  if (entered.rowCount === 0) return false;
  await client.query(takeIn, [JSON.stringify(cities)]);
  return true;
}

async function inTransaction<T>(work: (client: PoolClient) => Promise<T>): Promise<T> {
  const client = await pool.connect();
  try {
    await client.query('begin');
    const done = await work(client);
    await client.query('commit');
    client.release();
    return done;
  } catch (error) {
    // The connection goes, and the transaction with it.
    client.release(error as Error);
    throw error;
  }
}

function send(response: ServerResponse, status: number, body: unknown): void {
  response.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(body));
}
