// Room for jobs to come: `job` and `outcome` are partitioned by id, so that retention drops tables instead of deleting
// rows. Invariant: room for one and a half partitions lies ahead, so an insert always has a place to go.
// Next room: migrations/, whose function makes one.
import type { Db } from './db.ts';
import { sql } from './sql.ts';

/** Ids of one partition. */
const size = 10_000_000n;

/** Adds partitions until there is room ahead; returns how many it added. Safe to run in every process. */
export async function addPartitions(db: Db): Promise<number> {
  return db.transaction(async (tx) => {
    await tx.many(lockPartitions);
    const { last, edge } = await tx.one(partitionEdge);
    let hi = BigInt(edge);
    let added = 0;
    while (hi - BigInt(last) < size + size / 2n) {
      await tx.many(addPartition, [hi.toString(), (hi + size).toString()]);
      hi += size;
      added++;
    }
    return added;
  });
}

export const lockPartitions = sql<unknown>`select pg_advisory_xact_lock(hashtext('errand.partitions'))`;

/** The lowest id that may still be kept: jobs below it were dropped with their partition. */
export const lowestKept = sql<{ edge: string }>`
select min(substring(pg_get_expr(c.relpartbound, c.oid) from 'FROM \(''?(\d+)''?\)')::bigint) edge
from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = 'errand.job'::regclass`;

/** The highest id given out and the first id without a partition. */
export const partitionEdge = sql<{ last: string; edge: string }>`
select (select last_value from errand.job_id_seq) last, max(substring(pg_get_expr(c.relpartbound, c.oid) from 'TO \(''?(\d+)''?\)')::bigint) edge
from pg_inherits i join pg_class c on c.oid = i.inhrelid where i.inhparent = 'errand.job'::regclass`;

export const addPartition = sql<unknown>`select errand.add_partition($1, $2)`;
