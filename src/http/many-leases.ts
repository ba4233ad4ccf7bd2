// The calls of the lease protocol for many leases at once, as a worker with many slots makes them.
// Invariant: nothing is lost because a neighbour is bad: each lease has an entry of its own in the answer, in the order of
// the call, that says what a call for it alone would have been told.
// Next room: actions/settle.ts and actions/heartbeat.ts, which write what comes together in one statement.
import { z } from 'zod';
import type { Actions } from '../actions/actions.ts';
import { Problem, toBody } from '../domain/problem.ts';
import { most_report_bytes } from '../domain/start.ts';
import { sendJson } from './answer.ts';
import { most_items, refuseLarge } from './body.ts';
import { attemptEndOf, completionOf, extensionOf, failingOf } from './leases.ts';
import { problemOr } from './problem.ts';
import { bodyFaults, type Route, refusals, storeFaults } from './route.ts';
import {
  CompletionItem,
  Completions,
  FailureItem,
  Failures,
  HeartbeatItem,
  Heartbeats,
  LeasesCompleted,
  LeasesEnded,
  LeasesKept,
  ReleaseItem,
  Releases,
  usualCompletion,
} from './schemas/many-leases.ts';
import { checked } from './validate.ts';

/** A lease of a call and what is asked for it, or the problem with that. */
interface Asked<Item> {
  id: string | null;
  item: Item | Problem;
}

type ForMany<Item> = Route<{ Body: Asked<Item>[] }>;

/** `POST /v1/leases/heartbeat`. */
export function heartbeatMany(
  { pull }: Actions,
  defaultLeaseSeconds: number,
  isDraining: () => boolean,
): ForMany<HeartbeatItem> {
  return forMany({
    operationId: 'heartbeatLeases',
    summary: 'Keep many leases',
    body: Heartbeats,
    answer: LeasesKept,
    read: (item, at) => {
      const beat = checked(HeartbeatItem, item, at);
      refuseLarge(`${at}/progress`, beat.progress, most_report_bytes);
      return beat;
    },
    act: async (beat) =>
      JSON.stringify(await extensionOf(pull, beat.id, beat, defaultLeaseSeconds, isDraining)),
  });
}

/** `POST /v1/leases/complete`. */
export function completeMany({ pull }: Actions, resultLimit: number): ForMany<CompletionItem> {
  return forMany({
    operationId: 'completeLeases',
    summary: 'Complete many jobs',
    body: Completions,
    answer: LeasesCompleted,
    read: (item, at) => {
      const completion = usualCompletion(item) ?? checked(CompletionItem, item, at);
      refuseLarge(`${at}/result`, completion.result, resultLimit);
      return completion;
    },
    // Written out: these answers come by the hundred.
    act: async (completion) =>
      `{"job_id":"${await pull.complete(completion.id, completionOf(completion))}","state":"succeeded"}`,
  });
}

/** `POST /v1/leases/fail`. */
export function failMany(actions: Actions): ForMany<FailureItem> {
  return forMany({
    operationId: 'failLeases',
    summary: 'Fail many attempts',
    body: Failures,
    answer: LeasesEnded,
    read: (item, at) => checked(FailureItem, item, at),
    act: async (failure) => endedOf(actions, await actions.pull.fail(failure.id, failingOf(failure))),
  });
}

/** `POST /v1/leases/release`. */
export function releaseMany(actions: Actions): ForMany<ReleaseItem> {
  return forMany({
    operationId: 'releaseLeases',
    summary: 'Give many jobs back unrun',
    body: Releases,
    answer: LeasesEnded,
    read: (item, at) => checked(ReleaseItem, item, at),
    act: async (item) => endedOf(actions, await actions.pull.release(item.id, item.delay_seconds)),
  });
}

async function endedOf(actions: Actions, settled: Parameters<typeof attemptEndOf>[1]): Promise<string> {
  const { id, ...end } = await attemptEndOf(actions, settled);
  return JSON.stringify({ job_id: id, ...end });
}

interface ManyOptions<Item> {
  operationId: string;
  summary: string;
  body: z.ZodType;
  answer: z.ZodType;
  /** Reads one item, which stands at this pointer; throws what is wrong with it. */
  read: (item: unknown, at: string) => Item;
  /** Does what a call for one lease does, and answers with what that is told, as the JSON text of an object. */
  act: (item: Item) => Promise<string>;
}

const envelope = z.strictObject({ leases: z.array(z.unknown()).min(1).max(most_items) });

function forMany<Item>({ operationId, summary, body, answer, read, act }: ManyOptions<Item>): ForMany<Item> {
  return {
    schema: {
      operationId,
      summary,
      description:
        'Each lease has an entry of its own in the answer; one that is refused leaves the others alone.',
      tags: ['leases'],
      body,
      response: {
        200: { description: 'What became of each.', content: { 'application/json': { schema: answer } } },
        ...refusals(...bodyFaults, ...storeFaults),
      },
    },
    check: (sent) =>
      checked(envelope, sent ?? {}).leases.map((item, i) => ({
        id: idOf(item),
        item: problemOr(() => read(item, `#/leases/${i}`)),
      })),
    async handler(request, reply) {
      const leases = await Promise.all(
        request.body.map(async ({ id, item }) => {
          try {
            if (item instanceof Problem) throw item;
            return `{"id":"${id}",${(await act(item)).slice(1)}`;
          } catch (error) {
            if (!(error instanceof Problem)) throw error;
            return JSON.stringify({ id, problem: toBody(error, request.id) });
          }
        }),
      );
      return sendJson(reply, 200, `{"leases":[${leases.join(',')}]}`);
    },
  };
}

/** What a lease is called in the answer, also where the rest of the item cannot be used. */
function idOf(item: unknown): string | null {
  const { id } = (item ?? {}) as { id?: unknown };
  return typeof id === 'string' && id.length <= 200 ? id : null;
}
