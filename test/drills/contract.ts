// What is generated from the OpenAPI document is what is committed, the document passes a linter of others, and the client
// made from it compiles with the TypeScript of its users and runs on every Node here that it promises to run on.
// Invariant: everything is done on copies in the drill's folder; the tools are those of tools/contract, by its lockfile.
// Next room: tools/contract; clients/typescript.
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { openapiDocument } from '../../src/http/openapi.ts';
import { exitWithin, findProgram, spawnTied } from '../support/children.ts';
import { startErrand } from '../support/errand.ts';
import { handlers } from '../support/world.ts';
import type { Drill } from './drill.ts';

const repository = fileURLToPath(new URL('../..', import.meta.url));
const copied = ['tools/contract', 'clients/typescript', 'openapi'];
const generated = 'clients/typescript/src/schema.ts';
const command_ms = 3 * 60_000;

// A user's program outside of the repository, compiled and run with what the build made.
const smoke = `
import { Errand, type Job } from 'errand-client';
declare const process: { env: Record<string, string> };
const errand = new Errand({ url: process.env.ERRAND_URL ?? '' });
const { id, result } = await errand.submit({ type: 'echo', payload: [1, 'é'] }, { expect: '200-ok', wait: 20 });
const job: Job = await errand.job(id);
// @ts-expect-error: known to be a text, so the types have come along
const wrong: number = job.id;
const events: string[] = [];
for await (const { event } of errand.events(id)) events.push(event);
console.log(JSON.stringify({ result, events }));
`;

export const drill: Drill = {
  name: 'contract',
  proves:
    'the TypeScript client is made from the present document, which lints, and compiles and runs for its users',
  profiles: ['short', 'long'],
  limit_minutes: 10,
  async run({ folder, say }) {
    if (findProgram('npm') === null) return { result: 'NOT RUN', reason: 'npm is not installed' };
    for (const part of copied) {
      cpSync(join(repository, part), join(folder, part), {
        recursive: true,
        filter: (path) => !/[/\\](node_modules|dist)$/.test(path),
      });
    }
    const tools = join(folder, 'tools/contract');
    const faults: string[] = [];
    const demand = (holds: boolean, fault: string) => {
      if (!holds) faults.push(fault);
    };
    say('installing tools/contract');
    await npm(tools, 'ci', '--no-audit', '--no-fund', '--ignore-scripts');

    const printed = `${JSON.stringify(await openapiDocument(), null, 2)}\n`;
    const committed = (path: string) => readFileSync(join(repository, path), 'utf8');
    demand(
      committed('openapi/openapi.json') === printed,
      'openapi/openapi.json is not what the program prints',
    );
    say('generating, linting, building');
    await npm(tools, 'run', 'generate');
    const isSame = readFileSync(join(folder, generated), 'utf8') === committed(generated);
    demand(isSame, `${generated} is not made from openapi/openapi.json: npm run client`);
    await npm(tools, 'run', 'lint').catch((error: Error) => faults.push(error.message));
    await npm(tools, 'run', 'build').catch((error: Error) => faults.push(error.message));

    const nodes = nodesHere();
    if (faults.length === 0) {
      say('installing it in a program of others');
      const app = join(folder, 'app');
      mkdirSync(app);
      writeFileSync(join(app, 'package.json'), '{ "type": "module" }');
      writeFileSync(join(app, 'smoke.ts'), smoke);
      const compiler = join(tools, 'node_modules/typescript/bin/tsc');
      const options = '--strict --module nodenext --target es2022 --lib es2022,dom';
      await npm(app, 'install', '--offline', '--no-audit', '--no-fund', '../clients/typescript');
      await run(process.execPath, [compiler, ...options.split(' '), 'smoke.ts'], app, {});
      const errand = await startErrand({ handlers });
      for (const [version, program] of nodes) {
        say(`running it on ${version}`);
        const output = await run(program, ['smoke.js'], app, { ERRAND_URL: errand.url });
        const expected = '{"result":[1,"é"],"events":["state","state","done"]}';
        demand(output.trim() === expected, `on ${version} the client said ${output.slice(0, 500)}`);
      }
      await errand.stop();
    }
    const versions = { nodes: [...nodes.keys()].join(', ') };
    if (faults.length > 0) return { result: 'FAIL', reason: faults.join('\n'), versions };
    return { result: 'PASS', versions };
  },
};

function npm(cwd: string, ...words: string[]): Promise<string> {
  return run(findProgram('npm') as string, words, cwd, {});
}

/** Runs a program to its end and returns what it printed; throws with its last lines when it fails. */
async function run(program: string, words: string[], cwd: string, env: NodeJS.ProcessEnv): Promise<string> {
  const child = spawnTied(program, words, {
    cwd,
    env: { ...process.env, NO_COLOR: '1', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
  }
  const { gone, code } = await exitWithin(child, command_ms);
  if (!gone) child.kill('SIGKILL');
  if (code === 0) return output;
  throw new Error(`${program} ${words.join(' ')} ended with ${code}: ${output.slice(-2_000)}`);
}

/** Every Node on the path that the client promises to run on, by version. */
function nodesHere(): Map<string, string> {
  const places = [
    process.execPath,
    ...(process.env.PATH ?? '').split(delimiter).map((place) => join(place, 'node')),
  ];
  const found = new Map<string, string>();
  for (const place of places.filter((one) => existsSync(one))) {
    const version =
      spawnSync(place, ['--version'], { encoding: 'utf8', timeout: 10_000 }).stdout?.trim() ?? '';
    const [major = 0, minor = 0] = version.slice(1).split('.').map(Number);
    if ((major > 20 || (major === 20 && minor >= 3)) && !found.has(version)) found.set(version, place);
  }
  return found;
}
