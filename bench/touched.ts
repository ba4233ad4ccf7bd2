// What the hot statements touch: each is run once with the same parameters, in the order in which a job meets them, by the
// plan that the pools keep, and rolled back.
// Invariants: plans are generic and made under the settings of the pools; a first run, rolled back as well, has read the
// catalog, so what is counted is tables and indexes.
// Next room: figures/history.ts, which compares a store of ten million finished jobs with a small one.
import pg from 'pg';
import { claim, heartbeat, promoteDue } from '../src/store/claims.ts';
import { settleSucceeded } from '../src/store/endings.ts';
import { findEnded, findJobs, insertPlain } from '../src/store/jobs.ts';
import { fixedPlans, startupOptions } from '../src/store/session.ts';
import { payloadText } from './payload.ts';

const jobs = 100;
const statements = { insertPlain, claim, heartbeat, settleSucceeded, findJobs, findEnded, promoteDue };
export type Hot = keyof typeof statements;
export const hotNames = Object.keys(statements) as Hot[];

/** Buffers that each hot statement touches for 100 jobs of the lane. */
export async function touched(url: string, lane: number): Promise<Record<Hot, number>> {
  const client = new pg.Client({
    connectionString: url,
    options: startupOptions(fixedPlans),
    query_timeout: 60_000,
  });
  await client.connect();
  try {
    for (const [name, { text }] of Object.entries(statements))
      await client.query(`prepare "${name}" as ${text}`);
    await walk(client, lane);
    return await walk(client, lane);
  } finally {
    await client.end();
  }
}

interface Lease {
  id: string;
  ids: string[];
}

async function walk(client: pg.Client, lane: number): Promise<Record<Hot, number>> {
  const found: Partial<Record<Hot, number>> = {};
  const run = async (name: Hot, ...params: string[]) => {
    const before = await buffers(client);
    await client.query(`execute "${name}"(${params.join(', ')})`);
    found[name] = (await buffers(client)) - before;
  };
  await client.query('begin');
  await run(
    'insertPlain',
    ...[`'{${lane}}'`, "'{5}'", "'{60}'", all('1')],
    ...[`array_fill(${pg.escapeLiteral(payloadText)}::text, array[${jobs}])`, all('8')],
  );
  await run('claim', `'{${lane}}'`, "'{5}'", "'{0}'", `${jobs}`, "'{0}'", '30', '10', 'false');
  const { rows } = await client.query<Lease>('select id, ids from errand.lease where owner = 0 order by id');
  const taken = rows.flatMap(({ ids }) => ids);
  const leases = rows.flatMap(({ id, ids }) => ids.map(() => id));
  if (taken.length !== jobs) throw new Error(`a claim took ${taken.length} of ${jobs} jobs; no figure`);
  await run('heartbeat', list([...new Set(leases)]), list(rows.map(() => '30')), list(taken), all('1'));
  await run('findJobs', list(taken));
  const firsts = rows.map((_, n) => 1 + rows.slice(0, n).reduce((sum, { ids }) => sum + ids.length, 0));
  const whole = list(rows.map(({ id }) => id));
  await run('settleSucceeded', whole, list(firsts.map(String)), list(taken), 'null', whole);
  await run('findEnded', list(taken));
  await run('promoteDue', '500', '5');
  await client.query('rollback');
  return found as Record<Hot, number>;
}

// Not EXPLAIN: it leaves out the parts of a statement that run after its answer, and these are the inserts.
async function buffers(client: pg.Client): Promise<number> {
  const { rows } = await client.query<{ n: number }>(
    `select coalesce(sum(shared_blks_hit + shared_blks_read), 0)::float8 n
     from pg_stat_statements s join pg_database d on d.oid = s.dbid
     where datname = current_database() and query like '%errand.%' and query not like '%pg_stat_statements%'`,
  );
  return (rows[0] as { n: number }).n;
}

function list(values: readonly string[]): string {
  return `'{${values.join(',')}}'`;
}

function all(value: string): string {
  return list(Array.from({ length: jobs }, () => value));
}
