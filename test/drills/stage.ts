// The process one drill runs in: gives it its context, turns a throw into a FAIL and hands the verdict to the runner.
// Next room: run.ts, which started it; the drill that was named.
import { writeFileSync } from 'node:fs';
import type { Context, Drill, Profile, Verdict } from './drill.ts';

const [name = '', profile = 'short', seedText = '0', folder = '', answer = ''] = process.argv.slice(2);
const seed = Number(seedText);
const { drill } = (await import(`./${name}.ts`)) as { drill: Drill };
const context: Context = {
  profile: profile as Profile,
  seed,
  random: seeded(seed),
  folder,
  say: (line) => console.log(`   ${line}`),
};

const verdict = await drill.run(context).catch((error: unknown): Verdict => {
  console.error(error);
  return { result: 'FAIL', reason: error instanceof Error ? error.message : String(error) };
});
writeFileSync(answer, JSON.stringify(verdict));
// What a drill left open must not keep the runner waiting; children die with this process.
process.exit(0);

/** Mulberry32: small, and the same on every machine. */
function seeded(start: number): () => number {
  let state = start >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
