// The part of the composition root that remembers: the pools, with a share of them for crowds, and what every process keeps
// of rows that never change.
// Invariant: pools are made here and nowhere else; a connection that ends after they were told to close is no trouble.
// Next room: store/db.ts; build.ts, which hands them to the verbs.
import { randomBytes } from 'node:crypto';
import type { Config } from '../config.ts';
import type { EventBus } from '../events.ts';
import { breaker } from '../store/breaker.ts';
import { openPool, type Pool } from '../store/db.ts';
import { Lanes, Workers } from '../store/lanes.ts';
import { sharedSecret } from '../store/secrets.ts';
import type { Way } from '../store/session.ts';
import { durability } from '../store/soundness.ts';

export type Stores = Awaited<ReturnType<typeof openStores>>;

/** Opens the pools and reads what is needed to begin. */
export async function openStores(config: Config, way: Way, events: EventBus) {
  let closed = false;
  /** Tells of an error in a place that nobody waits for. */
  const onError = (where: string) => (error: unknown) => {
    if (!closed) events.emit('store.error', { where, error });
  };
  const shared = breaker();
  const pool = (name: string, max: number): Pool =>
    openPool({ name, max, way, breaker: shared, onError: onError(`postgres ${name}`) });
  const intake = pool('intake', config.ERRAND_INTAKE_CONNECTIONS);
  const engine = pool('engine', config.ERRAND_ENGINE_CONNECTIONS);
  const read = pool('read', config.ERRAND_READ_CONNECTIONS);
  // One connection renews the term while the other fires: no load on the rest of the process can starve them.
  const leads = config.ERRAND_ROLES.includes('dispatcher') ? pool('office', 2) : null;
  const pools = [intake, engine, read, ...(leads === null ? [] : [leads])];
  const lanes = new Lanes(read);
  const secrets = {
    lease: await sharedSecret(read, 'lease', randomBytes(32)),
    cursor: await sharedSecret(read, 'cursor', randomBytes(32)),
    signing: config.ERRAND_SIGNING_SECRETS ?? [await sharedSecret(read, 'signing', randomBytes(32))],
  };
  await warnOfWeakDurability(read, events);
  await lanes.refresh();
  return {
    intake,
    engine,
    read,
    leads,
    // Crowds have a share: however many want jobs or lists, leases are renewed and ended, and single jobs are read.
    claims: engine.share(Math.max(1, config.ERRAND_ENGINE_CONNECTIONS - 2)),
    browse: read.share(Math.max(1, config.ERRAND_READ_CONNECTIONS - 1)),
    lanes,
    workers: new Workers(read),
    secrets,
    onError,
    counts: () => pools.map((one) => ({ name: one.name, ...one.counts() })),
    /** From now on errors are no trouble. */
    closing(): void {
      closed = true;
    },
    async close(): Promise<void> {
      await Promise.all(pools.map((one) => one.end()));
    },
  };
}

async function warnOfWeakDurability(db: Pool, events: EventBus): Promise<void> {
  const { fsync, synchronous_commit } = await db.one(durability);
  if (fsync === 'off' || synchronous_commit === 'off') {
    events.emit('service.said', {
      level: 'warn',
      message: 'postgres may lose what it has confirmed: a 202 is no promise here',
      fsync,
      synchronous_commit,
    });
  }
}
