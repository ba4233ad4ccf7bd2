// kill -9 while jobs flow: nothing that was accepted is lost, nothing ends twice, what comes too late is refused.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { crashRun } from '../support/crash.ts';

test('500 jobs survive kill -9 of their replicas, each ending exactly once', async () => {
  const report = await crashRun({
    jobs: 500,
    killEveryMs: 1_500,
    submitters: 4,
    pullers: 4,
    quiesceMs: 60_000,
  });
  const {
    acked,
    lost,
    not_terminal,
    twice_terminal,
    keys_with_two_jobs,
    running_without_lease,
    stale_accepted,
  } = report;
  assert.deepEqual(
    { acked, lost, not_terminal, twice_terminal, keys_with_two_jobs, running_without_lease, stale_accepted },
    {
      acked: 500,
      lost: [],
      not_terminal: [],
      twice_terminal: [],
      keys_with_two_jobs: [],
      running_without_lease: 0,
      stale_accepted: [],
    },
  );
  assert.ok(report.convicted.length <= 5, `${report.convicted.length} jobs met three kills in a row`);
  assert.ok(report.kills >= 2, `only ${report.kills} kills: the test did not reach its rare path`);
  assert.ok(
    report.stale_refused > 0,
    'no stale completion was refused: the test did not reach its rare path',
  );
  assert.ok(
    report.slowest_recovery_seconds <= 2 + 5,
    `a lost job was taken up after ${report.slowest_recovery_seconds} s`,
  );
});
