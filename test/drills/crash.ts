// Drill: kill -9 of one of two replicas every few seconds while jobs flow through handlers and pull workers. Every
// acknowledged id ends exactly once, stale completions are refused, lost jobs are taken up within lease + 5 s.
// Next room: test/support/crash.ts, the load, the fault and the checker.
import { crashRun } from '../support/crash.ts';
import type { Drill, Verdict } from './drill.ts';

const lease_seconds = 2;
const notice_seconds = 5;

export const drill: Drill = {
  name: 'crash',
  proves:
    'kill -9 of replicas loses nothing that was acknowledged, doubles nothing, and accepts nothing stale',
  profiles: ['short', 'long'],
  limit_minutes: 15,
  async run({ profile, say }): Promise<Verdict> {
    const jobs = profile === 'long' ? 20_000 : 3_000;
    const report = await crashRun({
      jobs,
      killEveryMs: 3_000,
      submitters: 16,
      pullers: 8,
      quiesceMs: 180_000,
    });
    say(
      `${report.acked} acknowledged, ${report.kills} kills, ${report.stale_refused} stale completions refused`,
    );
    const figures = {
      jobs,
      acked: report.acked,
      kills: report.kills,
      stale_refused: report.stale_refused,
      starts: report.starts,
      duplicate_starts: report.duplicate_starts,
      slowest_recovery_seconds: report.slowest_recovery_seconds,
      seconds: report.seconds,
    };
    const broken = {
      'acknowledged ids that are lost': report.lost,
      'acknowledged ids that did not succeed': report.not_terminal.map((one) => `${one.id} ${one.state}`),
      'ids that ended or started twice': report.twice_terminal,
      'keys with two jobs': report.keys_with_two_jobs,
      'stale completions accepted': report.stale_accepted,
    };
    for (const [what, which] of Object.entries(broken)) {
      if (which.length > 0)
        return { result: 'FAIL', reason: `${what}: ${which.slice(0, 10).join(', ')}`, figures };
    }
    if (report.convicted.length > jobs / 100) {
      return { result: 'FAIL', reason: `${report.convicted.length} jobs met three kills in a row`, figures };
    }
    if (report.running_without_lease > 0) {
      return {
        result: 'FAIL',
        reason: `${report.running_without_lease} jobs run without a live lease`,
        figures,
      };
    }
    if (report.slowest_recovery_seconds > lease_seconds + notice_seconds) {
      return {
        result: 'FAIL',
        reason: `a lost job was taken up after ${report.slowest_recovery_seconds} s`,
        figures,
      };
    }
    if (report.kills < 3 || report.stale_refused === 0) {
      return { result: 'VACUOUS', reason: 'too few kills, or no stale completion was ever brought', figures };
    }
    return { result: 'PASS', figures };
  },
};
