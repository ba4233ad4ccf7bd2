// The request of the POST figures as a user would have Fastify check it, and the way a server tells where it listens.
// Next room: fastify.ts and posting.ts.
import type { AddressInfo } from 'node:net';
import type { FastifyInstance } from 'fastify';
import { payload } from '../payload.ts';

const text = { type: 'string', maxLength: 200 };
const line = {
  type: 'object',
  required: ['sku', 'quantity', 'cents'],
  properties: { sku: text, quantity: { type: 'integer' }, cents: { type: 'integer' } },
};
export const body = {
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

/** Listens on a free port of loopback and prints it; SIGTERM ends the process. */
export async function listen(app: FastifyInstance): Promise<void> {
  await app.listen({ host: '127.0.0.1', port: 0 });
  console.log(`listens on http://127.0.0.1:${(app.server.address() as AddressInfo).port}`);
  process.on('SIGTERM', () => process.exit(0));
}
