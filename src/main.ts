// The command line: reads the words, starts what they name, and turns signals into a drain.
// Next room: compose.ts, which builds the program.
import { Command } from 'commander';
import { compose, describe, type Errand, migrate, release } from './compose.ts';
import { ConfigError, readConfig } from './config.ts';

const program = new Command('errand')
  .description('HTTP job control on Postgres')
  .version(release)
  .showHelpAfterError();

program
  .command('serve')
  .description('serve the API, run handlers and chores, as ERRAND_ROLES says')
  .option('--migrate', 'bring the schema up to date first')
  .action((options: { migrate?: boolean }) => serve(options.migrate === true));

program
  .command('migrate')
  .description('bring the schema of DATABASE_URL up to date')
  .action(async () => {
    const config = readConfig();
    const url = config.DATABASE_URL ?? config.ERRAND_DIRECT_DATABASE_URL;
    if (url === undefined) throw new ConfigError(['DATABASE_URL: needed for migrate']);
    const done = await migrate(config, url);
    console.log(done.join('\n') || 'the schema is up to date');
  });

program
  .command('openapi')
  .description('print the OpenAPI document')
  .action(async () => {
    console.log(JSON.stringify(await describe(), null, 2));
  });

try {
  await program.parseAsync();
} catch (error) {
  const known = error instanceof ConfigError || (error instanceof Error && !(error instanceof TypeError));
  console.error(known ? (error as Error).message : error);
  process.exit(1);
}

async function serve(mayMigrate: boolean): Promise<void> {
  const config = readConfig();
  const errand = await compose(config, { migrate: mayMigrate });
  onSignals(errand);
  onAccidents(errand);
  process.stdout.write(banner(errand, config.REDIS_URL !== undefined));
}

/** SIGTERM gives balancers time, SIGINT does not; a second signal ends the process at once. */
function onSignals(errand: Errand): void {
  let draining = false;
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, async () => {
      if (draining) process.exit(1);
      draining = true;
      await errand.drain(signal === 'SIGINT');
      process.exit(0);
    });
  }
}

/** A handler's stray rejection must not take the API and its neighbours along; anything else ends in an orderly stop. */
function onAccidents({ events, drain }: Errand): void {
  const tell = (message: string, error: unknown) =>
    events.emit('service.said', {
      level: 'error',
      message,
      error: error instanceof Error ? error.message : String(error),
    });
  process.on('unhandledRejection', (error) =>
    tell('a promise was rejected and nobody took it; going on', error),
  );
  process.on('uncaughtException', (error) => {
    tell('an error was thrown where nobody could catch it; stopping', error);
    const end = () => process.exit(1);
    setTimeout(end, 5_000).unref();
    drain(true).then(end, end);
  });
}

function banner({ url, embedded, types }: Errand, withRedis: boolean): string {
  const store =
    embedded === null
      ? 'postgres as DATABASE_URL says'
      : `embedded PostgreSQL ${embedded.version} at ${embedded.dataDir}, port ${embedded.port} (set DATABASE_URL for production)`;
  const type = types.includes('echo') ? 'echo' : (types[0] ?? 'echo');
  return [
    '',
    `Errand ${release} listens on ${url}`,
    `  ${store}`,
    `  redis: ${withRedis ? 'as REDIS_URL says' : 'disabled'}`,
    `  handlers: ${types.join(', ') || 'none; lease jobs over HTTP'}`,
    '',
    'Try it:',
    `  curl -i ${url}/v1/jobs -H 'content-type: application/json' -d '{"type":"${type}","payload":{"hello":"world"}}'`,
    `  curl -iL ${url}/v1/jobs/1/status`,
    `  curl -i ${url}/v1/jobs -H 'content-type: application/json' -H 'Expect: 200-ok' -d '{"type":"${type}","payload":[1,2,3]}'`,
    '',
    '',
  ].join('\n');
}
