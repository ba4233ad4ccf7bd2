// One suite for every way of execution: what a caller is promised does not depend on who runs the job.
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { type Called, calling } from '../support/call.ts';
import { Way, wayNames } from '../support/ways/ways.ts';

for (const name of wayNames) {
  describe(`a job that is run by ${name}`, { concurrency: true }, () => {
    const way = new Way(name);
    const call = calling(() => way.url);
    before(() => way.start());
    after(() => way.stop());

    async function submit(job: object): Promise<string> {
      const { status, json } = await call.post('/v1/jobs', job);
      assert.equal(status, 202, JSON.stringify(json));
      return json.id;
    }

    /** The record of a job once it has ended, by following its status. */
    async function ended(id: string): Promise<Called['json']> {
      for (;;) {
        const { json } = await call.get(`/v1/jobs/${id}/status`, { prefer: 'wait=10' });
        if (json.terminal) return (await call.get(`/v1/jobs/${id}`)).json;
      }
    }

    test('is answered at once where that is demanded, and found at its Location otherwise', async () => {
      const now = await call.post('/v1/jobs', way.job('add'), { 'errand-expect': '200-ok' });
      assert.deepEqual([now.status, now.json], [200, { sum: 6 }]);
      const later = await call.post('/v1/jobs', way.job('add'));
      assert.equal(later.status, 202);
      // One poll may be answered when the job starts, which is before there is a result.
      const record = await ended(later.json.id);
      const { json } = await call.get(later.headers.get('location') as string);
      const followed = await call.get(json.result ?? `/v1/jobs/${later.json.id}/result`);
      assert.deepEqual(followed.json, { sum: 6 });
      assert.deepEqual([record.state, record.attempt, record.epoch], ['succeeded', 1, 1]);
    });

    test('is tried again after a failure', async () => {
      const backoff = { strategy: 'fixed', base_seconds: 0.1, jitter: 'none' };
      const id = await submit(way.job('fail_once', { backoff }));
      const record = await ended(id);
      assert.deepEqual([record.state, record.attempt], ['succeeded', 2]);
      assert.equal(way.starts(id), 2);
    });

    test('does not start before its time', async () => {
      const id = await submit(way.job('add', { delay_seconds: 3 }));
      assert.equal((await call.get(`/v1/jobs/${id}`)).json.state, 'scheduled');
      const record = await ended(id);
      assert.equal(record.state, 'succeeded');
      assert.ok(Date.parse(record.started_at) >= Date.parse(record.run_at), 'by the clock of the database');
    });

    test('that runs is stopped by a cancel', async () => {
      const id = await submit(way.job('hang'));
      await way.told('began', id);
      const asked = await call.post(`/v1/jobs/${id}/cancel`);
      // 202: asked to stop; 200: it has stopped already.
      assert.ok([200, 202].includes(asked.status), `${asked.status}`);
      await way.told('stopped', id);
      assert.equal((await ended(id)).state, 'cancelled');
      assert.equal(way.starts(id), 1);
    });

    test('that runs too long is stopped, and dead when no attempt is left', async () => {
      const id = await submit(way.job('hang', { timeout_seconds: 1, max_attempts: 1 }));
      const record = await ended(id);
      assert.deepEqual([record.state, record.error.class, record.error.status], ['dead', 'timeout', 504]);
      await way.told('stopped', id);
    });
  });

  test(`a job that is run by ${name} outlives a kill -9 of whoever runs it`, async () => {
    const way = new Way(name);
    const call = calling(() => way.url);
    await way.start();
    try {
      const { json } = await call.post('/v1/jobs', way.job('hang_once'));
      await way.told('began', json.id);
      await way.crash();
      await way.told('began', json.id, 2);
      for (;;) {
        const status = await call.get(`/v1/jobs/${json.id}/status`, { prefer: 'wait=10' });
        if (status.json.terminal) break;
      }
      const record = (await call.get(`/v1/jobs/${json.id}`)).json;
      assert.deepEqual([record.state, record.attempt], ['succeeded', 2]);
      assert.equal(way.starts(json.id), 2);
    } finally {
      await way.stop();
    }
  });
}
