// Why this room exists: a test file gets a database of its own in some 50 ms, so files can run in parallel.
// Invariant: nothing is shared between files but the server; a file run alone starts and stops its own.
// Next room: server.ts, which opens the server and migrates the template.
import { randomBytes } from 'node:crypto';
import { openPool, type Pool } from '../../src/store/db.ts';
import { sessionSettings } from '../../src/store/session.ts';
import {
  databaseUrl,
  onServer,
  openTestServer,
  SERVER_VARIABLE,
  type TestServer,
  type TestServerFacts,
} from './server.ts';

export interface TestDatabase {
  url: string;
  /** Removes the database, connections that still stand included. Idempotent. */
  drop(): Promise<void>;
}

let ours: Promise<TestServer> | undefined;
let standing = 0;

/** A fresh copy of the migrated template. */
export async function cloneDatabase(): Promise<TestDatabase> {
  const { url, template } = await testServer();
  const name = template.replace(/template$/, randomBytes(6).toString('hex'));
  // file_copy: 47 to 69 ms against 55 to 198 ms with wal_log (measured, 25 tables, fsync off).
  await onServer(url, (client) =>
    client.query(`create database ${name} template ${template} strategy file_copy`),
  );
  standing++;
  let dropped: Promise<void> | undefined;
  return {
    url: databaseUrl(url, name),
    drop() {
      dropped ??= drop(url, name);
      return dropped;
    },
  };
}

/** The last database of a file that was run alone takes the server with it: hooks of the file may still need it before. */
async function drop(url: string, name: string): Promise<void> {
  try {
    await onServer(url, (client) => client.query(`drop database if exists ${name} with (force)`));
  } finally {
    standing--;
    if (standing === 0 && ours !== undefined) {
      const server = ours;
      ours = undefined;
      await (await server).stop();
    }
  }
}

async function testServer(): Promise<TestServerFacts> {
  const told = process.env[SERVER_VARIABLE];
  if (told) return JSON.parse(told) as TestServerFacts;
  ours ??= openTestServer();
  return ours;
}

/** A pool of the program on a test's database, with sessions as the program has them. */
export function poolOn(url: string, max: number): Pool {
  const way = { url, pooled: false, settings: sessionSettings(20_000) };
  return openPool({ name: 'test', max, way, onError: () => {} });
}
