// Plain JavaScript on purpose: it must be readable by every Node there is, so that an old one gets one clear line.
// With words it goes on to the program in the same process, so that a signal sent to npm reaches it.
const need = [22, 19];
const have = process.versions.node.split('.').map(Number);
if (have[0] < need[0] || (have[0] === need[0] && have[1] < need[1])) {
  console.error(
    `errand needs Node ${need.join('.')} or newer, this is ${process.versions.node}; ` +
      'run "npm ci" with install scripts allowed (it brings Node 24), or install a newer Node',
  );
  process.exit(1);
}
if (process.argv.length > 2) await import('./src/main.ts');
