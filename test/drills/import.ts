// Drill: all the cities of the data set go through jobs and a worker in Python into a table, while service and worker are
// killed with -9; every city is there once, and so are its effects.
// Next room: test/system/import-core.ts, the import and its kills; examples/import, the programs.
import { startEmbeddedPostgres } from '../../src/embedded/postgres.ts';
import { migrate } from '../../src/store/migrate.ts';
import { databaseUrl, onServer } from '../support/server.ts';
import { python, runImport } from '../system/import-core.ts';
import type { Context, Drill, Verdict } from './drill.ts';

const slice = 500;

export const drill: Drill = {
  name: 'import',
  proves: 'an import of a real data set ends exact, effects included, through kill -9 of service and worker',
  profiles: ['short', 'long'],
  limit_minutes: 8,
  async run(context): Promise<Verdict> {
    if (python === null) return { result: 'NOT RUN', reason: 'python3 is not on PATH' };
    const kills = sharesOf(context);
    const postgres = await startEmbeddedPostgres({ dataDir: context.folder });
    try {
      await migrate(postgres.url);
      await onServer(postgres.url, (client) => client.query('create database atlas'));
      const facts = await runImport({
        databaseUrl: postgres.url,
        appDatabaseUrl: databaseUrl(postgres.url, 'atlas'),
        slice,
        kills,
        limitMs: 300_000,
      });
      const { verdict, at_kill, interrupted, ...figures } = facts;
      context.say(
        `killed at ${at_kill.join(', ')} of ${facts.cities} cities; ${facts.repeated} slices repeated`,
      );
      context.say(verdict.split('\n').at(-1) ?? '');
      const told = {
        ...figures,
        kills: kills.length,
        killed_at: at_kill.join(' '),
        interrupted: interrupted.join(' '),
      };
      if (interrupted.includes(0)) {
        return { result: 'VACUOUS', reason: 'a kill met no slice under way', figures: told };
      }
      return { result: 'PASS', figures: told };
    } finally {
      await postgres.stop();
    }
  },
};

/** At half; in the long profile five times, about where the seed says, but never so close that one job dies three times. */
function sharesOf({ profile, random }: Context): number[] {
  if (profile === 'short') return [0.5];
  return [0.1, 0.3, 0.5, 0.7, 0.9].map((share) => share + (random() - 0.5) / 10);
}
