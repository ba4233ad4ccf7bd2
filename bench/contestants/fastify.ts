// The limit: Fastify with the same request, validated against a JSON schema, and a static 202. What is missing here and
// present in Errand (storage above all) is what the POST figure prices.
// Next room: ../post.ts, which compares the two.
import type { AddressInfo } from 'node:net';
import { fastify } from 'fastify';
import { payload } from '../payload.ts';

const app = fastify({ logger: false });

const text = { type: 'string', maxLength: 200 };
const line = {
  type: 'object',
  required: ['sku', 'quantity', 'cents'],
  properties: { sku: text, quantity: { type: 'integer' }, cents: { type: 'integer' } },
};
const body = {
  type: 'object',
  additionalProperties: false,
  required: ['type', 'payload'],
  properties: {
    type: { type: 'string', pattern: '^[a-z0-9][a-z0-9._-]{0,62}$' },
    payload: {
      type: 'object',
      required: Object.keys(payload),
      properties: {
        order: text,
        customer: { type: 'object', properties: { id: { type: 'integer' }, email: text } },
        lines: { type: 'array', items: line },
        total_cents: { type: 'integer' },
        note: text,
      },
    },
  },
};

app.post('/v1/jobs', { schema: { body } }, (_request, reply) => {
  reply.code(202).header('location', '/v1/jobs/1').send({ id: '1' });
});

await app.listen({ host: '127.0.0.1', port: 0 });
console.log(`listens on http://127.0.0.1:${(app.server.address() as AddressInfo).port}`);
process.on('SIGTERM', () => process.exit(0));
