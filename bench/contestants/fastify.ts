// The limit: Fastify with the same request, validated against a JSON schema, and a static 202. What is missing here and
// present in Errand (storage above all) is what the POST figure prices.
// Next room: route.ts, the request; posting.ts, the same route with a peer behind it.
import { fastify } from 'fastify';
import { body, listen } from './route.ts';

const app = fastify({ logger: false });

app.post('/v1/jobs', { schema: { body } }, (_request, reply) => {
  reply.code(202).header('location', '/v1/jobs/1').send({ id: '1' });
});

await listen(app);
