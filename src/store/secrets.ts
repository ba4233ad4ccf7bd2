// Secrets that every replica must share and nobody configured: made at first start, kept in the database.
// Next room: domain/lease-id.ts, which seals lease ids with one.
import type { Db } from './db.ts';
import { sql } from './sql.ts';

/** The secret of a name; `fresh` is stored if there is none yet, whoever comes first wins. */
export async function sharedSecret(db: Db, name: string, fresh: Buffer): Promise<Buffer> {
  await db.many(offerSecret, [name, fresh]);
  return (await db.one(findSecret, [name])).value;
}

export const offerSecret = sql<never>`
insert into errand.secret (name, value) values ($1, $2) on conflict do nothing`;
export const findSecret = sql<{ value: Buffer }>`select value from errand.secret where name = $1`;
