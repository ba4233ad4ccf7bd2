// A database that hangs is noticed by what waits for it: submits are refused at once and leave no trace, leases are kept
// meanwhile, and what was under way is answered as it is.
import assert from 'node:assert/strict';
import { after, test } from 'node:test';
import pg from 'pg';
import { startErrand } from '../support/errand.ts';
import { until } from '../support/until.ts';

test('while submits hang in the database others are refused and not stored, and leases are renewed', async () => {
  const errand = await startErrand({ env: { ERRAND_LEASE_SECONDS: '60' } });
  const truth = new pg.Client({ connectionString: errand.databaseUrl });
  await truth.connect();
  after(async () => {
    await truth.end();
    await errand.stop();
  });
  const call = async (path: string, body: object) => {
    const answer = await fetch(errand.url + path, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify(body),
    });
    const json = (await answer.json()) as { id: string; code?: string; leases?: { id: string }[] };
    return { status: answer.status, retry_after: answer.headers.get('retry-after'), ...json };
  };
  await call('/v1/jobs', { type: 'held' });
  const { leases } = await call('/v1/leases', { worker: 'w', types: ['held'] });
  const lease = leases?.[0]?.id as string;

  await truth.query('begin');
  await truth.query('lock table errand.job in share mode');
  const submit = (n: number) => call('/v1/jobs', { type: 'late', payload: n });
  const answers: Promise<Awaited<ReturnType<typeof submit>>>[] = [];
  let seen: Awaited<ReturnType<typeof submit>> | undefined;
  // More come all the time, as callers do: those behind the ones that hang are refused.
  await until(async () => {
    const answer = submit(answers.length);
    answers.push(answer);
    void answer.then((one) => {
      if (one.code === 'queue-saturated') seen ??= one;
    });
    return seen !== undefined;
  });
  assert.equal(seen?.status, 503);
  assert.ok(Number(seen?.retry_after) >= 1);
  assert.equal((await call(`/v1/leases/${lease}/heartbeat`, {})).status, 200);
  await truth.query('rollback');

  const all = await Promise.all(answers);
  const { rows } = await truth.query<{ id: string; payload: string }>(
    `select id::text, payload from errand.job where payload ~ '^[0-9]+$'`,
  );
  const stored = new Map(rows.map(({ id, payload }) => [Number(payload), id]));
  all.forEach((answer, n) => {
    if (answer.status === 202) assert.equal(stored.get(n), answer.id, `submit ${n} was acknowledged`);
    else if (answer.code !== 'outcome-unknown')
      assert.equal(stored.get(n), undefined, `submit ${n} was refused`);
  });
  await until(async () => (await submit(answers.length)).status === 202);
  assert.equal((await call(`/v1/leases/${lease}/complete`, { result: 1 })).status, 200);
});
