// Why this room exists: a new server has no database of ours; making one cannot be a migration, which needs it.
// Invariant: the only statements outside store/, run before anything else connects.
// Next room: postgres.ts.
import { Client } from 'pg';

const DUPLICATE_DATABASE = '42P04';
const UNIQUE_VIOLATION = '23505';

/** Creates the database unless it exists; safe when two processes do so at once. */
export async function ensureDatabase(serverUrl: string, name: string): Promise<void> {
  const client = new Client({
    connectionString: serverUrl,
    connectionTimeoutMillis: 15_000,
    query_timeout: 60_000,
  });
  // A server that goes away ends the client with an event as well as with the rejected query.
  client.on('error', () => {});
  await client.connect();
  try {
    const { rowCount } = await client.query('select from pg_database where datname = $1', [name]);
    if (rowCount === 0) await client.query(`create database ${client.escapeIdentifier(name)}`);
  } catch (error) {
    const code = (error as { code?: string }).code;
    if (code !== DUPLICATE_DATABASE && code !== UNIQUE_VIOLATION) throw error;
  } finally {
    await client.end();
  }
}
