// Why this room exists: tests of operations begin them over HTTP, follow them to a state, and count by SQL where jobs stand,
// whatever the API says of them.
// Invariant: a job that is in two places, or in none, is found.
// Next room: test/roles/operations.test.ts.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import type { Pool } from '../../src/store/db.ts';
import { sql } from '../../src/store/sql.ts';
import type { Caller } from './call.ts';
import { until } from './until.ts';

export interface Shown {
  id: string;
  state: string;
  phase: string | null;
  matched: number;
  counts: Record<string, number>;
  error: string | null;
  undo_until: string | null;
  note: string | null;
}

/** Follows an operation until it is as `fits` says. */
export function followed(call: Caller, id: string, fits: (shown: Shown) => boolean): Promise<Shown> {
  return until(
    async () => {
      const { json } = await call.get(`/v1/operations/${id}`);
      if (!fits(json)) throw new Error(JSON.stringify(json));
      return json as Shown;
    },
    { timeoutMs: 30_000 },
  );
}

export const isOver = ({ state }: Shown) => state !== 'running';

/** Submits so many jobs, 1,000 at a time, and answers their ids. */
export async function submitted(
  call: Caller,
  n: number,
  job: object | ((i: number) => object),
): Promise<string[]> {
  const ids: string[] = [];
  for (let from = 0; from < n; from += 1_000) {
    const jobs = Array.from({ length: Math.min(1_000, n - from) }, (_, i) =>
      typeof job === 'function' ? job(from + i) : job,
    );
    // Under its key it may be sent again, whatever a busy machine answers.
    const key = { 'idempotency-key': randomUUID() };
    const json = await until(async () => {
      const answer = await call.post('/v1/jobs/batch', { jobs }, key);
      if (answer.status !== 503) assert.ok(answer.status < 300, JSON.stringify(answer.json).slice(0, 300));
      return answer.status < 300 ? answer.json : null;
    });
    for (const { id } of json.items ?? json.jobs) ids.push(id);
  }
  return ids;
}

/** Where a job stands: how many places it has, and the queue and route of the lane it stands in and of its record. */
export interface Stands {
  id: string;
  places: number;
  queue: string | null;
  route: string | null;
  own_queue: string;
  state: string;
}

/** Where jobs of these ids stand. */
export function standing(db: Pool, ids: readonly string[]): Promise<Stands[]> {
  return db.transaction(async (tx) => {
    await tx.many(ordinaryJoins);
    return tx.many(places, [ids]);
  });
}

// Many jobs are joined here, for which the plans of the program are not made.
const ordinaryJoins = sql<never>`set local enable_hashjoin = on`;

const places = sql<Stands>`
with p as materialized (
  select u.id, b.lane from errand.block b cross join lateral unnest(b.ids[b.pos + 1:]) u(id)
  union all select job_id, lane from errand.later
  union all select u.id, l.lane from errand.lease l cross join lateral unnest(l.ids) u(id)
    where not exists (select from errand.outcome o where o.job_id = u.id and o.epoch = l.epoch)
  union all select job_id, null from errand.outcome where status <= 'expired'
), w as materialized (
  select id, count(*)::int places, min(lane) lane from p group by id
)
select f.id, coalesce(w.places, 0) places, l.queue, l.route, o.queue own_queue, f.state
from errand.job_facts($1::bigint[]) f join errand.lane o on o.id = f.lane
left join w on w.id = f.id left join errand.lane l on l.id = w.lane
order by f.id`;

/** Fails where a job is in two places or in none. */
export function eachOnce(stands: readonly Stands[]): void {
  const wrong = stands.filter(({ places }) => places !== 1);
  assert.deepEqual(wrong, [], 'every job stands in one place');
}
