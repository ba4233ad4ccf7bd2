// What has happened to a job, as a stream that goes on (Server-Sent Events) or as a page of what there is now.
// Invariants: whoever names the last event it has seen gets each later one once; errors come before the first byte, and a
// database that is away later only delays; a reader who does not read is cut, and nothing gathers for it meanwhile.
// Next room: domain/timeline.ts, which derives the events; actions/watch.ts, which tells that there are new ones.
import type { ServerResponse } from 'node:http';
import { Readable } from 'node:stream';
import type { FastifyReply, FastifyRequest } from 'fastify';
import { z } from 'zod';
import type { Actions } from '../actions/actions.ts';
import type { Watched } from '../actions/watch.ts';
import { preferred } from '../domain/media-choice.ts';
import { Problem } from '../domain/problem.ts';
import {
  beginning,
  epochOf,
  eventsAfter,
  isAhead,
  nameOf,
  type Position,
  positionOf,
  type TimelineEvent,
} from '../domain/timeline.ts';
import { departure, headerOf, missing, sendJson, sendNobody } from './answer.ts';
import { type Route, refusals, storeFaults } from './route.ts';
import { EventPage, EventQuery } from './schemas/event.ts';
import { JobParams } from './schemas/job.ts';

/** Times of a stream, in ms. */
export interface StreamLimits {
  /** Something is sent at least so often, so that nobody on the way takes the connection for dead. */
  heartbeat_ms: number;
  /** Then the stream ends and the reader comes back, maybe to another replica. */
  life_ms: number;
  /** How long a reader may leave unread what was sent. */
  stall_ms: number;
}

/** The times in use unless a test shortens them. */
export const streamLimits: StreamLimits = { heartbeat_ms: 15_000, life_ms: 600_000, stall_ms: 30_000 };

const streamType = 'text/event-stream';
const forms = ['application/json', streamType] as const;
/** How long a reader gets to take the end of its stream when the server stops, in ms. */
const farewell_ms = 1_000;
/** How long a reader is asked to wait before it comes back, in ms. */
const retry_ms = 2_000;
/** Pause before a read that failed is repeated, in ms. */
const again_ms = 1_000;

type EventsRoute = { Params: JobParams; Querystring: EventQuery };

/** `GET /v1/jobs/{id}/events`. */
export function readEvents(actions: Actions, limits: StreamLimits): Route<EventsRoute> {
  return {
    config: { headers: ['Accept', 'Last-Event-ID'] },
    schema: {
      operationId: 'readEvents',
      summary: 'Watch a job',
      description:
        'With `Accept: text/event-stream` a stream of events that goes on until the job has ended; else a page of what ' +
        'has happened so far.',
      tags: ['jobs'],
      params: JobParams,
      querystring: EventQuery,
      response: {
        200: {
          description: 'What has happened, oldest first.',
          headers: { 'X-Accel-Buffering': { type: 'string', description: '`no`, on a stream.' } },
          content: {
            'application/json': { schema: EventPage },
            [streamType]: { schema: z.string() },
          },
        },
        204: { description: 'The job has ended and there is nothing left to stream: do not come back.' },
        ...refusals(
          ...storeFaults,
          'not-found',
          'job-archived',
          'not-acceptable',
          'validation-failed',
          'stream-limit',
        ),
      },
    },
    async handler(request, reply) {
      const form = preferred(headerOf(request, 'accept'), forms);
      if (form === null) throw notAcceptable();
      const from = resumePoint(request);
      return form === streamType
        ? sendStream(actions, limits, request, reply, from)
        : sendPage(actions, request, reply, from);
    },
  };
}

async function sendPage(
  actions: Actions,
  request: FastifyRequest<EventsRoute>,
  reply: FastifyReply,
  from: Position,
): Promise<FastifyReply> {
  const { query } = request;
  const { events, more, terminal } = await existingEvents(actions, request, from);
  const items = events.slice(0, query.limit);
  const last = items.at(-1)?.id ?? nameOf(from);
  const next_cursor = more || items.length < events.length ? last : null;
  const rest = JSON.stringify({ next_cursor, last_event_id: last, terminal });
  return sendJson(reply, 200, `{"items":[${items.map(itemOf)}],${rest.slice(1)}`);
}

async function sendStream(
  actions: Actions,
  limits: StreamLimits,
  request: FastifyRequest<EventsRoute>,
  reply: FastifyReply,
  from: Position,
): Promise<FastifyReply> {
  const { id } = request.params;
  const { raw } = reply;
  const gone = departure(reply);
  if (gone.aborted) return sendNobody(reply);
  const watched = actions.watch.stream(id, () => cutAfter(raw, farewell_ms));
  raw.once('close', () => watched.close());
  // Watched first, then read: what happens in between is news.
  const first = await existingEvents(actions, request, from);
  if (gone.aborted) return sendNobody(reply);
  if (isLast(first) && first.events.length === 0) return reply.code(204).send();
  reply.headers({
    'content-type': streamType,
    'cache-control': 'no-store, no-transform',
    'x-accel-buffering': 'no',
    // The connection goes with the stream: neither a drain nor a reader who has stalled keeps it.
    connection: 'close',
  });
  const frames =
    request.method === 'HEAD' ? [] : framesOf({ actions, id, from, watched, gone, limits }, first);
  return reply.send(Readable.from(patiently(frames, raw, limits.stall_ms)));
}

/** What was read of a job at once. */
interface Batch {
  events: TimelineEvent[];
  more: boolean;
  terminal: boolean;
  /** Whether the job has not come as far as what was named. */
  ahead: boolean;
}

interface Following {
  actions: Actions;
  id: string;
  from: Position;
  watched: Watched;
  gone: AbortSignal;
  limits: StreamLimits;
}

/** Everything that is sent; `batch` is what was read already. */
async function* framesOf(following: Following, batch: Batch | null | undefined): AsyncGenerator<string> {
  const { actions, id, from, watched, gone, limits } = following;
  const until = performance.now() + limits.life_ms;
  let after = from;
  yield `retry: ${retry_ms}\n\n`;
  for (; batch !== undefined; batch = await batchAfter(actions, id, after).catch(away)) {
    for (const event of batch?.events ?? []) {
      yield frameOf(event);
      after = positionOf(event.id) ?? after;
    }
    if (batch !== null && isLast(batch)) return;
    if (batch?.more) continue;
    const pause = batch === null ? again_ms : limits.heartbeat_ms;
    // What was told is not kept while nothing happens.
    batch = null;
    const end = await watched.news(Math.min(pause, until - performance.now()), gone);
    if (end === 'gone' || end === 'drained' || performance.now() >= until) return;
    if (end === 'time') yield ':\n\n';
  }
}

/** Hands frames on as they are taken, and cuts the connection of a reader who takes nothing for too long. */
async function* patiently(
  frames: Iterable<string> | AsyncIterable<string>,
  raw: ServerResponse,
  stall_ms: number,
): AsyncGenerator<string> {
  for await (const frame of frames) {
    const rest = cutAfter(raw, stall_ms);
    yield frame;
    rest();
  }
  cutAfter(raw, stall_ms);
}

/** Cuts a connection unless its answer is through by then; returns what calls that off. */
function cutAfter(raw: ServerResponse, ms: number): () => void {
  const timer = setTimeout(() => raw.destroy(), ms);
  const rest = () => {
    clearTimeout(timer);
    raw.off('close', rest);
  };
  raw.once('close', rest);
  return rest;
}

/** Once the answer has begun, a database that is away can only be waited for. */
function away(error: unknown): null {
  if (error instanceof Problem && error.retryable) return null;
  throw error;
}

async function existingEvents(
  actions: Actions,
  request: FastifyRequest<EventsRoute>,
  from: Position,
): Promise<Batch> {
  const { id } = request.params;
  const batch = (await batchAfter(actions, id, from)) ?? (await missing(actions.inspect, id));
  // Whoever is ahead of the job would never be told its end.
  if (batch.ahead)
    throw noSuchEvent(request, 'is no event this job has had; send one that was received, or none');
  return batch;
}

async function batchAfter({ history }: Actions, id: string, from: Position): Promise<Batch | undefined> {
  const found = await history.read(id, epochOf(from));
  if (found === undefined) return undefined;
  const { more, terminal } = found;
  return { events: eventsAfter(found, from), more, terminal, ahead: isAhead(found, from) };
}

/** Whether nothing can follow. */
function isLast({ more, terminal }: Batch): boolean {
  return terminal && !more;
}

// A browser that comes back names the last event itself, in a header, and repeats the query it began with.
function resumePoint(request: FastifyRequest<EventsRoute>): Position {
  const position = positionOf(seenIn(request) || request.query.after || nameOf(beginning));
  if (position !== null) return position;
  throw noSuchEvent(request, 'is no id of an event; send one that was received, or none');
}

function seenIn(request: FastifyRequest): string | undefined {
  return headerOf(request, 'last-event-id');
}

function noSuchEvent(request: FastifyRequest, why: string): Problem {
  if (seenIn(request)) return new Problem('bad-header', { detail: `last-event-id ${why}` });
  const fault = { pointer: '#/after', code: 'no_such_event', detail: why };
  return new Problem('validation-failed', { detail: `#/after ${why}`, errors: [fault] });
}

function notAcceptable(): Problem {
  return new Problem('not-acceptable', {
    detail: `accept names neither of the two forms; send ${forms.join(' or ')}`,
  });
}

function itemOf({ id, event, data }: TimelineEvent): string {
  return `{"id":"${id}","event":"${event}","data":${data}}`;
}

// JSON may be spread over lines; a line of data must not be.
function frameOf({ id, event, data }: TimelineEvent): string {
  return `id: ${id}\nevent: ${event}\ndata: ${data.replaceAll(/\r\n?|\n/g, '\ndata: ')}\n\n`;
}
