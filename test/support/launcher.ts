// Why this room exists: a process whose only job is to launch PostgreSQL and then be killed.
// Next room: test/system/embedded.test.ts, which kills it.
import { startEmbeddedPostgres } from '../../src/embedded/postgres.ts';

const [dataDir, tied] = process.argv.slice(2);
const server = await startEmbeddedPostgres({
  dataDir: dataDir!,
  settings: { max_connections: '20' },
  machine: { tied: tied !== 'untied' },
});
console.log(JSON.stringify(server));
setInterval(() => {}, 60_000);
