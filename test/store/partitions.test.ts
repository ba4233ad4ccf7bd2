// Room for jobs to come: partitions are added before an insert needs them.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { addPartitions, partitionEdge } from '../../src/store/partitions.ts';
import { sql } from '../../src/store/sql.ts';
import { cloneDatabase, poolOn } from '../support/postgres.ts';

test('room for new jobs is made ahead of the highest id, once, whoever makes it', async () => {
  const database = await cloneDatabase();
  const db = poolOn(database.url, 4);
  try {
    assert.equal(await addPartitions(db), 0);
    await db.many(sql<unknown>`select setval('errand.job_id_seq', 19000000)`);
    const added = await Promise.all([addPartitions(db), addPartitions(db), addPartitions(db)]);
    assert.equal(
      added.reduce((sum, one) => sum + one),
      2,
    );
    const { last, edge } = await db.one(partitionEdge);
    assert.deepEqual([last, edge], ['19000000', '40000000']);
  } finally {
    await db.end();
    await database.drop();
  }
});
