// A job that was dropped with its partition is told from one that never was: 410 below the first partition, 404 above.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import pg from 'pg';
import { aSubmission, startErrand } from '../support/errand.ts';

test('answers 410 for jobs whose partition was dropped and 404 for jobs that never were', async () => {
  const errand = await startErrand();
  const client = new pg.Client({ connectionString: errand.databaseUrl });
  client.on('error', () => {});
  await client.connect();
  try {
    const { id } = await errand.actions.submit(aSubmission({ type: 'old' }));
    await client.query('select errand.add_partition(20000000, 30000000)');
    await client.query('drop table errand.job_0, errand.outcome_0');
    await client.query(`select setval('errand.job_id_seq', 10000000)`);
    const young = await errand.actions.submit(aSubmission({ type: 'young' }));
    const answers: [string, number, string | null][] = [];
    for (const path of [
      `${id}`,
      `${id}/status`,
      `${id}/result`,
      `${young.id}`,
      '10900000',
      '10900000/status',
    ]) {
      const answer = await fetch(`${errand.url}/v1/jobs/${path}`);
      const { code = null } = (await answer.json()) as { code?: string };
      answers.push([path.replace(/^\d+/, ''), answer.status, code]);
    }
    assert.deepEqual(answers, [
      ['', 410, 'job-archived'],
      ['/status', 410, 'job-archived'],
      ['/result', 410, 'result-expired'],
      ['', 200, null],
      ['', 404, 'not-found'],
      ['/status', 404, 'not-found'],
    ]);
  } finally {
    await client.end();
    await errand.stop();
  }
});
