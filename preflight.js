// Plain JavaScript on purpose: it must be readable by every Node there is, so that an old one gets one clear line.
// With words it goes on to the program in the same process.
const need = [22, 19];
const have = process.versions.node.split('.').map(Number);
if (have[0] < need[0] || (have[0] === need[0] && have[1] < need[1])) {
  console.error(
    `errand needs Node ${need.join('.')} or newer, this is ${process.versions.node}; ` +
      'run "npm ci" with install scripts allowed (it brings Node 24), or install a newer Node',
  );
  process.exit(1);
}
// A signal sent to npm ends npm and its shell but does not reach us: losing the parent is taken for the signal.
if (process.env.npm_lifecycle_event !== undefined) {
  const parent = process.ppid;
  const watch = setInterval(() => {
    if (process.ppid === parent) return;
    clearInterval(watch);
    process.kill(process.pid, 'SIGTERM');
  }, 500);
  watch.unref();
}
if (process.argv.length > 2) await import('./src/main.ts');
