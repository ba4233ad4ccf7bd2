// The route a user would write: Fastify, the request validated against a JSON schema, the job handed to a peer, 202 with its
// Location once the peer has it. Which peer: the first word.
// Next room: ../figures/post-peers.ts, which puts it under load.
import { fastify } from 'fastify';
import { peer } from '../peers.ts';
import { addressOf } from './bullmq.ts';
import { body, listen } from './route.ts';

interface Job {
  type: string;
  payload: object;
}

type Add = (job: Job) => Promise<string | null>;

const [name = ''] = process.argv.slice(2);
const url = process.env.DATABASE_URL ?? '';

const peers: Readonly<Record<string, () => Promise<Add>>> = {
  async 'pg-boss'() {
    interface Boss {
      on(event: 'error', listener: (error: Error) => void): void;
      start(): Promise<unknown>;
      createQueue(name: string): Promise<void>;
      send(name: string, data: object): Promise<string | null>;
    }
    const { PgBoss } = await peer<{ PgBoss: new (url: string) => Boss }>('pg-boss');
    const boss = new PgBoss(url);
    boss.on('error', (error) => process.stderr.write(`pg-boss: ${error.message}\n`));
    await boss.start();
    await boss.createQueue('noop');
    return ({ type, payload }) => boss.send(type, payload);
  },

  async graphile() {
    interface Utils {
      migrate(): Promise<void>;
      addJob(identifier: string, payload: object): Promise<{ id: string }>;
    }
    const { makeWorkerUtils } = await peer<{
      makeWorkerUtils(options: object): Promise<Utils>;
    }>('graphile-worker');
    const utils = await makeWorkerUtils({ connectionString: url });
    await utils.migrate();
    return async ({ type, payload }) => (await utils.addJob(type, payload)).id;
  },

  async bullmq() {
    interface Queue {
      waitUntilReady(): Promise<unknown>;
      add(name: string, data: object): Promise<{ id: string }>;
    }
    const { Queue } = await peer<{ Queue: new (name: string, options: object) => Queue }>('bullmq');
    const queue = new Queue('noop', { connection: addressOf(url) });
    await queue.waitUntilReady();
    return async ({ type, payload }) => (await queue.add(type, payload)).id;
  },
};

const open = peers[name];
if (open === undefined) throw new Error(`no peer "${name}"; they are ${Object.keys(peers).join(', ')}`);
const add = await open();

const app = fastify({ logger: false });
app.post<{ Body: Job }>('/v1/jobs', { schema: { body } }, async (request, reply) => {
  const id = await add(request.body);
  return reply.code(202).header('location', `/v1/jobs/${id}`).send({ id });
});
await listen(app);
