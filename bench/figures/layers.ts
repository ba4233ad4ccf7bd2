// Figure: the price of each layer of the HTTP tier on POST /v1/jobs, in Node CPU: the same request is sent to servers that have
// one layer more each, from bare Fastify to the whole program, and what a layer adds is the difference within a round.
// Invariant: every answer is a 202, and those of the whole program are rows.
// Next room: contestants/layers.ts, which builds them.
import { calmRounds } from '../calm.ts';
import { type CountingPrice, pricingCounting } from '../counting.ts';
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

/** What one round gave: every server under load, and counting by itself. */
interface Taken {
  taken: Round[];
  counting: CountingPrice;
}

const order = {
  path: '/v1/jobs',
  body: JSON.stringify({ type: 'noop', payload }),
  connections: 64,
  warm_up_seconds: 0.5,
  seconds: 1.5,
};

export async function layerPrices({ rounds = 8, ground, say }: FigureOptions): Promise<Figure> {
  const url = await ground.database('layers');
  const priceOfCounting = pricingCounting();
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
        const counting = priceOfCounting();
        say(`layers: ${taken.map(({ node_us }) => node_us.toFixed(1)).join(', ')} µs`);
        return { taken, counting };
      },
    });
    const [row] = await ground.ask<{ rows: number }>(url, 'select count(*)::int "rows" from errand.job');
    if (row?.rows !== accepted.at(-1)) {
      throw new Error(`${accepted.at(-1)} answers of 202 but ${row?.rows} rows; no figure`);
    }
    const nodeOf = ({ taken }: Taken, i: number) => (taken[i] as Round).node_us;
    const whole = layers.length - 1;
    const counted = (round: Taken) => (round.counting.post_us / nodeOf(round, whole)) * 100;
    return {
      name: 'layers',
      title: 'What each layer of a POST costs',
      goals: [
        {
          what: 'metrics and statistics at a POST',
          against: 'all Node CPU of it',
          ...{ at: 'most', value: 1, unit: '%' },
          seen: spreadOf(kept.map(counted)),
        },
      ],
      lines: [
        ...layers.map((what, i) => ({
          what,
          unit: 'µs/request',
          spread: spreadOf(kept.map((round) => nodeOf(round, i) - (i === 0 ? 0 : nodeOf(round, i - 1)))),
        })),
        {
          what: 'all of it',
          unit: 'µs/request',
          spread: spreadOf(kept.map((round) => nodeOf(round, whole))),
        },
        {
          what: 'of it metrics and statistics, counted by themselves',
          unit: 'µs/request',
          spread: spreadOf(kept.map(({ counting }) => counting.post_us)),
        },
        {
          what: 'the same at the start and the end of a job',
          unit: 'µs/job',
          spread: spreadOf(kept.map(({ counting }) => counting.run_us)),
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
