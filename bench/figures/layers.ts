// Figure: the price of each layer of the HTTP tier on POST /v1/jobs, in Node CPU: the same request is sent to servers that have
// one layer more each, from bare Fastify to the whole program, and what a layer adds is the difference within a round.
// Invariant: every answer is a 202, and those of the whole program are rows.
// Next room: contestants/layers.ts, which builds them.
import { calmRounds } from '../calm.ts';
import type { Figure, FigureOptions } from '../figure.ts';
import { inTurn, spreadOf } from '../measure.ts';
import { payload, payloadText } from '../payload.ts';
import { measure, pathOf, type Round, type Server, serve } from '../served.ts';

const layers = [
  'bare Fastify: routing, the body read, a static 202',
  '+ request id, default headers, checks of headers, limits of the server',
  '+ metrics',
  '+ negotiation of Expect and Prefer',
  '+ body parsed, payload kept as text',
  '+ body validated',
  '+ the answer: submission, events, record, headers',
  '+ storage: flush, driver, and the services beside it',
] as const;

const order = {
  path: '/v1/jobs',
  body: JSON.stringify({ type: 'noop', payload }),
  connections: 64,
  warm_up_seconds: 0.5,
  seconds: 1.5,
};

export async function layerPrices({ rounds = 8, ground, say }: FigureOptions): Promise<Figure> {
  const url = await ground.database('layers');
  const servers: Server[] = [];
  const accepted: number[] = layers.map(() => 0);
  try {
    for (const [i] of layers.entries()) {
      const isWhole = i === layers.length - 1;
      const program = isWhole
        ? [pathOf('../src/main.ts'), 'serve', '--migrate']
        : [pathOf('./contestants/layers.ts'), String(i)];
      servers.push(await serve(program, url));
    }
    const { kept, others, remarks } = await calmRounds({
      rounds,
      server: ground.pid,
      say,
      async take(round) {
        const taken: Round[] = [];
        for (const i of inTurn(round, [...layers.keys()])) {
          const one = await measure(servers[i] as Server, ground.pid, order);
          const { 202: good = 0, ...bad } = one.statuses;
          if (Object.keys(bad).length > 0)
            throw new Error(`answers other than 202: ${JSON.stringify(bad)}; no figure`);
          accepted[i] = (accepted[i] ?? 0) + good;
          taken[i] = one;
        }
        say(`layers: ${taken.map(({ node_us }) => node_us.toFixed(1)).join(', ')} µs`);
        return taken;
      },
    });
    const [row] = await ground.ask<{ rows: number }>(url, 'select count(*)::int "rows" from errand.job');
    if (row?.rows !== accepted.at(-1)) {
      throw new Error(`${accepted.at(-1)} answers of 202 but ${row?.rows} rows; no figure`);
    }
    const nodeOf = (taken: readonly Round[], i: number) => (taken[i] as Round).node_us;
    return {
      name: 'layers',
      title: 'What each layer of a POST costs',
      goals: [],
      lines: [
        ...layers.map((what, i) => ({
          what,
          unit: 'µs/request',
          spread: spreadOf(kept.map((taken) => nodeOf(taken, i) - (i === 0 ? 0 : nodeOf(taken, i - 1)))),
        })),
        {
          what: 'all of it',
          unit: 'µs/request',
          spread: spreadOf(kept.map((taken) => nodeOf(taken, layers.length - 1))),
        },
        { what: 'CPU of others meanwhile', unit: 'cores', spread: spreadOf(others) },
      ],
      setup: {
        connections: String(order.connections),
        'seconds each round': `${order.seconds} after ${order.warm_up_seconds} of warm-up`,
        payload: `${payloadText.length} bytes`,
        'not there':
          'authentication is left to what stands in front; nothing is logged of a request that succeeds',
      },
      checks: ['every answer a 202; of the whole program, number of 202 = rows in errand.job', ...remarks],
    };
  } finally {
    await Promise.all(servers.map((server) => server.stop()));
  }
}
