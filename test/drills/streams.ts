// Drill: a thousand readers of a stream stop reading while it goes on. The service keeps its memory, cuts them in time, and
// who reads beside them notices nothing.
// Next room: test/system/stall-core.ts, the crowd and what is measured.
import { startEmbeddedPostgres } from '../../src/embedded/postgres.ts';
import { migrate } from '../../src/store/migrate.ts';
import { python } from '../system/import-core.ts';
import { runStall } from '../system/stall-core.ts';
import type { Drill, Verdict } from './drill.ts';

const readers = 1_000;
const most_growth_mib = 500;
const most_delay_ms = 150;

export const drill: Drill = {
  name: 'streams',
  proves: 'a thousand readers who do not read are cut, at bounded memory, and delay nobody who reads',
  profiles: ['short', 'long'],
  limit_minutes: 5,
  async run({ folder, say }): Promise<Verdict> {
    if (python === null) return { result: 'NOT RUN', reason: 'python3 is not on PATH' };
    const postgres = await startEmbeddedPostgres({ dataDir: folder });
    try {
      await migrate(postgres.url);
      const facts = await runStall({
        databaseUrl: postgres.url,
        readers,
        reports_alone: 30,
        reports: 60,
        report_bytes: 16_000,
        untilCut: true,
      });
      const figures = { ...facts };
      say(`memory ${facts.before_mib} MiB, then ${facts.stuck_mib}, at the end ${facts.end_mib}`);
      say(`a report took ${facts.alone_p50_ms} ms, beside the crowd ${facts.crowd_p50_ms} ms`);
      if (facts.most_received >= facts.reports) {
        return { result: 'VACUOUS', reason: 'the readers were never stuck', figures };
      }
      const faults = [
        facts.cut < readers && `only ${facts.cut} readers were cut`,
        facts.end_mib - facts.before_mib > most_growth_mib && 'the memory grew too much',
        facts.crowd_p50_ms - facts.alone_p50_ms > most_delay_ms && 'who reads was delayed',
      ].filter((fault) => fault !== false);
      if (faults.length > 0) return { result: 'FAIL', reason: faults.join('; '), figures };
      return { result: 'PASS', figures };
    } finally {
      await postgres.stop();
    }
  },
};
