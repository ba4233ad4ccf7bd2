// The levers of a queue: pause, resume, drain.
// Invariant: a lever that is pulled again changes nothing, and its answer says so.
// Next room: actions/queues.ts, which pulls them; actions/levers.ts, by which every process goes.
import type { Actions } from '../actions/actions.ts';
import { byOf } from './actor.ts';
import { etag, sendQueue } from './queue-answer.ts';
import { bodyFaults, type Route, refusals, storeFaults } from './route.ts';
import { PulledQueue, QueueDrain, QueueParams, QueuePause, QueueResume } from './schemas/queue.ts';

const pulled = { headers: etag, content: { 'application/json': { schema: PulledQueue } } } as const;

/** `POST /v1/queues/{queue}/pause`. */
export function pauseQueue({ queues }: Actions): Route<{ Params: QueueParams; Body: QueuePause }> {
  return {
    config: { headers: ['Errand-Actor'] },
    schema: {
      operationId: 'pauseQueue',
      summary: 'Pause a queue, or types of jobs in it',
      description:
        'Within a second no process starts a job of it, whoever runs its jobs. What runs goes on; what is submitted waits.',
      tags: ['queues'],
      params: QueueParams,
      body: QueuePause,
      response: {
        200: { description: 'It is paused.', ...pulled },
        ...refusals(...bodyFaults, ...storeFaults, 'not-found'),
      },
    },
    async handler(request, reply) {
      const { types = null, ...how } = request.body;
      const { queue, changed } = await queues.pause(request.params.queue, types, how, byOf(request));
      return sendQueue(reply, 200, queue, { changed });
    },
  };
}

/** `POST /v1/queues/{queue}/resume`. */
export function resumeQueue({ queues }: Actions): Route<{ Params: QueueParams; Body: QueueResume }> {
  return {
    config: { headers: ['Errand-Actor'] },
    schema: {
      operationId: 'resumeQueue',
      summary: 'Resume a queue, or types of jobs in it',
      description:
        'Without types pause and drain of the queue end; types that are paused on their own stay so until they are named.',
      tags: ['queues'],
      params: QueueParams,
      body: QueueResume,
      response: {
        200: { description: 'It goes on.', ...pulled },
        ...refusals(...bodyFaults, ...storeFaults, 'not-found'),
      },
    },
    async handler(request, reply) {
      const { types = null } = request.body;
      const { queue, changed } = await queues.resume(request.params.queue, types, byOf(request));
      return sendQueue(reply, 200, queue, { changed });
    },
  };
}

/** `POST /v1/queues/{queue}/drain`. */
export function drainQueue({ queues }: Actions): Route<{ Params: QueueParams; Body: QueueDrain }> {
  return {
    config: { headers: ['Errand-Actor'] },
    schema: {
      operationId: 'drainQueue',
      summary: 'Have a queue worked off',
      description:
        'Submits are refused, what is there is worked off; `drain.done` says when nothing is open any more. It lasts until ' +
        'the queue is resumed or deleted, also after the deadline.',
      tags: ['queues'],
      params: QueueParams,
      body: QueueDrain,
      response: {
        202: {
          description: 'It takes no more jobs.',
          content: pulled.content,
          headers: {
            ...etag,
            Location: { type: 'string', description: 'The queue, which says when it is done.' },
          },
        },
        ...refusals(...bodyFaults, ...storeFaults, 'not-found'),
      },
    },
    async handler(request, reply) {
      const name = request.params.queue;
      const { queue, changed } = await queues.drain(name, request.body, byOf(request));
      reply.header('location', `/v1/queues/${name}`);
      return sendQueue(reply, 202, queue, { changed });
    },
  };
}
