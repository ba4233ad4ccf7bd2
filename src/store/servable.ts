// Whether this program may serve on a database, and whether time may mend what is in the way: a database that is not up
// yet, or a migration that another program runs. A wrong password or a pooler nobody told of is mended by nobody.
// Next room: migrate.ts and session.ts, which look; compose.ts, which waits.
import pg from 'pg';
import { missingSteps } from './migrate.ts';
import { checkSessions, SettingsLacking, type Way } from './session.ts';

/** The schema is older than this program. */
class SchemaTooOld extends Error {}

/** Throws, with what to do, unless the schema reached at `direct` is up to date and sessions are as they must be. */
export async function checkServable(way: Way, direct: string): Promise<void> {
  const missing = await missingSteps(direct);
  if (missing.length > 0) {
    throw new SchemaTooOld(`the schema lacks ${missing.join(', ')}; run "errand migrate" first`);
  }
  await checkSessions(way);
}

/** An error in words: one for several addresses of a host has none of its own. */
export function inWords(error: Error): string {
  const [first] = error instanceof AggregateError ? error.errors : [];
  if (error.message === '' && first instanceof Error) return inWords(first);
  return error.message || ((error as NodeJS.ErrnoException).code ?? error.name);
}

/** Whether what stands in the way may pass by itself. */
export function mayPass(error: unknown): boolean {
  if (error instanceof SchemaTooOld || error instanceof SettingsLacking) return true;
  if (error instanceof pg.DatabaseError) return /^(08|53|57P)/.test(error.code ?? '');
  if (!(error instanceof Error)) return false;
  const { code = '' } = error as NodeJS.ErrnoException;
  return (
    /^(ECONN|EHOST|ENET|ETIMEDOUT|ENOTFOUND|EAI_AGAIN|EPIPE)/.test(code) ||
    /timeout|terminated/i.test(error.message)
  );
}
