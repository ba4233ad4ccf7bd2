// The command line: reads the words, starts what they name, and turns signals into a drain.
// Invariant: the program is loaded by the words that run it; all others are answered without, in a fraction of the time.
// Next room: compose.ts, which builds the program.
import { readFileSync } from 'node:fs';
import { Command, Option } from 'commander';
import type { ComposeOptions, Errand } from './compose.ts';
import { type Config, ConfigError, readConfig } from './config.ts';
import { type Ask, applyDeclared, readDeclared, saidOf } from './declared.ts';
import { takePlace } from './processes/place.ts';
import { release } from './release.ts';

// Whoever reads what is printed may go away: that is no reason for a service to end, nor to say so where nobody reads.
for (const stream of [process.stdout, process.stderr]) stream.on('error', () => {});

const program = new Command('errand')
  .description('HTTP job control on Postgres')
  .version(release)
  .showHelpAfterError();

program
  .command('serve')
  .description('serve the API, run handlers and chores, as ERRAND_ROLES says')
  .option('--migrate', 'bring the schema up to date first')
  .addOption(new Option('--process <number>', 'one of ERRAND_PROCESSES').argParser(Number).hideHelp())
  .action(({ migrate = false, process }: ServeOptions) =>
    process === undefined ? serve(migrate) : serveAs(process),
  );

program
  .command('migrate')
  .description('bring the schema of DATABASE_URL up to date')
  .action(async () => {
    const config = readConfig();
    const url = config.DATABASE_URL ?? config.ERRAND_DIRECT_DATABASE_URL;
    if (url === undefined) throw new ConfigError(['DATABASE_URL: needed for migrate']);
    const { migrate } = await import('./compose.ts');
    const done = await migrate(config, url);
    console.log(done.join('\n') || 'the schema is up to date');
  });

const schedules = program.command('schedules').description('schedules of a service that runs');

schedules
  .command('apply')
  .description(
    'define the schedules of a file; those in force already, and those it does not name, are left alone',
  )
  .requiredOption('-f, --file <file>', 'YAML or JSON: schedules: [{name, cron, job, …}, …]')
  .addOption(
    new Option('--url <url>', 'where the service is').env('ERRAND_URL').default('http://127.0.0.1:8080'),
  )
  .option('--dry-run', 'only say what would be done')
  .action(async ({ file, url, dryRun = false }: { file: string; url: string; dryRun?: boolean }) => {
    const declared = readDeclared(textOf(file), file);
    await applyDeclared(declared, askingOver(url), {
      dry: dryRun,
      onApplied: (applied) => console.log(saidOf(applied)),
    });
  });

program
  .command('openapi')
  .description('print the OpenAPI document')
  .action(async () => {
    const { describe } = await import('./compose.ts');
    console.log(JSON.stringify(await describe(), null, 2));
  });

try {
  await program.parseAsync();
} catch (error) {
  const known = error instanceof ConfigError || (error instanceof Error && !(error instanceof TypeError));
  console.error(known ? (error as Error).message : error);
  process.exit(1);
}

function textOf(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    throw new Error(`file "${file}" cannot be read; name one by -f`);
  }
}

function askingOver(url: string): Ask {
  if (!/^https?:$/.test(URL.parse(url)?.protocol ?? ''))
    throw new Error(`--url "${url}" is no http or https URL; use one such as http://127.0.0.1:8080`);
  return async (method, path, headers, body) => {
    // A service may stand below a path of its host.
    const answer = await fetch(`${url.replace(/\/$/, '')}${path}`, {
      method,
      headers: { 'content-type': 'application/json', ...headers },
      body,
      redirect: 'manual',
      signal: AbortSignal.timeout(30_000),
    }).catch((cause) => {
      throw new Error(`no service answers at ${url}; name one by --url`, { cause });
    });
    return {
      status: answer.status,
      etag: answer.headers.get('etag') ?? undefined,
      body: await answer.text(),
    };
  };
}

interface ServeOptions {
  migrate?: boolean;
  process?: number;
}

/** What signals and accidents need to know of what serves. */
type Serving = Omit<Errand, 'actions'>;

async function serve(mayMigrate: boolean): Promise<void> {
  const config = readConfig();
  const ending = new AbortController();
  const options = { migrate: mayMigrate, signal: ending.signal };
  const starting = start(config, options);
  onSignals(starting, ending, () => process.exit(1));
  const errand = await started(starting, ending);
  process.stdout.write(banner(errand, config.REDIS_URL !== undefined));
}

async function start(config: Config, options: Pick<ComposeOptions, 'migrate' | 'signal'>): Promise<Serving> {
  if (config.ERRAND_PROCESSES > 1) {
    const { composeMany } = await import('./processes/primary.ts');
    return composeMany(config, { ...options, onGivenUp });
  }
  const { compose } = await import('./compose.ts');
  return compose(config, options);
}

/** One of several processes that share the port; the first of them, which forked it, has done what is done once. */
async function serveAs(number: number): Promise<void> {
  const place = takePlace(number);
  const ending = new AbortController();
  const config = readConfig();
  const starting = import('./compose.ts').then(({ compose }) =>
    compose(config, { migrate: false, signal: ending.signal, place }),
  );
  // A terminal and a supervisor tell every process, and the primary passes on what it is told: the same signal comes twice.
  onSignals(starting, ending, () => {});
  const { url, types } = await started(starting, ending);
  place.up({ url, types });
}

async function started(starting: Promise<Serving>, ending: AbortController): Promise<Serving> {
  const errand = await starting.catch((error) => {
    if (ending.signal.aborted) process.exit(0);
    throw error;
  });
  onAccidents(errand);
  return errand;
}

function onGivenUp(reason: string): void {
  console.error(reason);
  process.exit(1);
}

/**
 * SIGTERM gives balancers time, SIGINT does not; a second signal is told by `again`. Who is stopped while it starts
 * waits for nothing more, and gives back what it took: the first process of a container gets no signal it does not listen to.
 */
function onSignals(starting: Promise<Serving>, ending: AbortController, again: () => void): void {
  let up = false;
  void starting.then(
    () => {
      up = true;
    },
    () => {},
  );
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, async () => {
      if (ending.signal.aborted) return again();
      ending.abort();
      const atOnce = signal === 'SIGINT' || !up;
      // A start that fails is told of by whoever waits for it.
      await starting.then(({ drain }) => drain(atOnce)).catch(() => process.exit(up ? 1 : 0));
      process.exit(0);
    });
  }
}

/** A handler's stray rejection must not take the API and its neighbours along; anything else ends in an orderly stop. */
function onAccidents({ events, drain }: Serving): void {
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

function banner({ url, embedded, types }: Serving, withRedis: boolean): string {
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
