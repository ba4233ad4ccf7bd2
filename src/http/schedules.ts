// Defines, changes, reads and deletes schedules.
// Invariants: a schedule that exists is changed or deleted only by who names its version; a definition that is in force
// already is answered as such, whoever sends it; a payload leaves as it came.
// Next room: definition.ts, which checks; schedule-control.ts for pause, resume, trigger and the ledger.
import type { Actions } from '../actions/actions.ts';
import type { Change, Check } from '../actions/schedules.ts';
import { scheduleEtag, scheduleRecord } from '../domain/schedule-record.ts';
import { byOf } from './actor.ts';
import { headerOf, sendJson } from './answer.ts';
import { namesTag, refuseReplacing, refuseStale } from './conditions.ts';
import { patchedWish, wishOf } from './definition.ts';
import { linkNext, nextLink } from './page.ts';
import { mergePatchType } from './problem.ts';
import { bodyFaults, type Route, refusals, storeFaults } from './route.ts';
import {
  answered,
  etag,
  existing,
  named,
  noSchedule,
  present,
  sendSchedule,
  versionOf,
} from './schedule-answer.ts';
import { NewSchedule, SchedulePatch } from './schemas/definition.ts';
import { ScheduleList, ScheduleParams, ScheduleQuery } from './schemas/schedule.ts';
import type { Terms } from './submission.ts';
import { checked } from './validate.ts';

const conditions = ['precondition-failed', 'precondition-required'] as const;

/** `PUT /v1/schedules/{name}`. */
export function putSchedule(
  { schedules }: Actions,
  terms: Terms,
): Route<{ Params: ScheduleParams; Body: NewSchedule }> {
  return {
    config: { headers: ['If-Match', 'If-None-Match', 'Errand-Actor'] },
    schema: {
      operationId: 'putSchedule',
      summary: 'Define a schedule',
      description:
        'Makes it, or replaces its definition from now on: what was due under the old one stays due. A definition that is ' +
        'in force already changes nothing and needs no If-Match.',
      tags: ['schedules'],
      params: ScheduleParams,
      body: NewSchedule,
      response: {
        200: { description: 'It is in force, or was already.', ...answered },
        201: {
          description: 'The schedule was made.',
          content: answered.content,
          headers: { ...etag, Location: { type: 'string', description: 'The schedule.' } },
        },
        ...refusals(...bodyFaults, ...storeFaults, 'not-found', ...conditions),
      },
    },
    async handler(request, reply) {
      const { name } = request.params;
      const wish = wishOf(request.body, name, terms);
      const check: Check = (present, isSame) =>
        refuseReplacing(
          request,
          named(name),
          present === undefined ? null : versionOf(name, present),
          isSame,
        );
      const { isNew, schedule } = await schedules.put(name, wish, check, byOf(request));
      if (isNew) reply.header('location', `/v1/schedules/${name}`);
      return sendSchedule(reply, isNew ? 201 : 200, schedule);
    },
  };
}

/** `PATCH /v1/schedules/{name}` (RFC 7396). */
export function patchSchedule(
  { schedules }: Actions,
  terms: Terms,
): Route<{ Params: ScheduleParams; Body: SchedulePatch }> {
  return {
    config: { headers: ['If-Match', 'Errand-Actor'] },
    schema: {
      operationId: 'patchSchedule',
      summary: 'Change a schedule',
      description:
        'A merge patch: what is absent stays, null is the default. The whole is checked as by PUT.',
      tags: ['schedules'],
      params: ScheduleParams,
      consumes: [mergePatchType, 'application/json'],
      body: SchedulePatch,
      response: {
        200: { description: 'Changed.', ...answered },
        ...refusals(...bodyFaults, ...storeFaults, 'not-found', ...conditions),
      },
    },
    // What is merged is what was sent: defaults are for the whole.
    check: (body) => {
      checked(SchedulePatch, body ?? {});
      return body ?? {};
    },
    async handler(request, reply) {
      const { name } = request.params;
      const make: Change = (present) => {
        refuseStale(request, versionOf(name, present));
        return patchedWish(present, request.body, name, terms);
      };
      const changed = await schedules.patch(name, make, byOf(request));
      return sendSchedule(reply, 200, present(changed, name));
    },
  };
}

/** `DELETE /v1/schedules/{name}`. */
export function deleteSchedule({ schedules }: Actions): Route<{ Params: ScheduleParams }> {
  return {
    config: { headers: ['If-Match', 'Errand-Actor'] },
    schema: {
      operationId: 'deleteSchedule',
      summary: 'Delete a schedule',
      description: 'Jobs it has made stay. One of the same name made later has a ledger of its own.',
      tags: ['schedules'],
      params: ScheduleParams,
      response: {
        204: { description: 'Deleted.' },
        ...refusals(...storeFaults, 'not-found', ...conditions),
      },
    },
    async handler(request, reply) {
      const { name } = request.params;
      const isThere = await schedules.remove(
        name,
        (present) => refuseStale(request, versionOf(name, present)),
        byOf(request),
      );
      if (!isThere) throw noSchedule(name);
      return reply.code(204).send();
    },
  };
}

/** `GET /v1/schedules/{name}`. */
export function readSchedule({ schedules }: Actions): Route<{ Params: ScheduleParams }> {
  return {
    config: { headers: ['If-None-Match'] },
    schema: {
      operationId: 'readSchedule',
      summary: 'Read a schedule',
      tags: ['schedules'],
      params: ScheduleParams,
      response: {
        200: { description: 'The schedule.', ...answered },
        304: { description: 'It is as it was.', headers: etag },
        ...refusals(...storeFaults, 'not-found'),
      },
    },
    async handler(request, reply) {
      const facts = await existing(schedules, request.params.name);
      const known = headerOf(request, 'if-none-match');
      if (known !== undefined && namesTag(known, scheduleEtag(facts))) {
        return reply.code(304).header('etag', scheduleEtag(facts)).send();
      }
      return sendSchedule(reply, 200, facts);
    },
  };
}

/** `GET /v1/schedules`. */
export function listSchedules({ schedules }: Actions): Route<{ Querystring: ScheduleQuery }> {
  return {
    schema: {
      operationId: 'listSchedules',
      summary: 'List schedules',
      description: 'By name, without payloads. Follow `next_cursor` until it is null: a page may be short.',
      tags: ['schedules'],
      querystring: ScheduleQuery,
      response: {
        200: {
          description: 'A page of schedules.',
          headers: nextLink,
          content: { 'application/json': { schema: ScheduleList } },
        },
        ...refusals(...storeFaults, 'cursor-invalid', 'validation-failed'),
      },
    },
    async handler({ query }, reply) {
      const { state, limit, cursor } = query;
      const { items, next_cursor } = await schedules.page(state, limit, cursor);
      linkNext(reply, '/v1/schedules', { ...query, cursor: next_cursor });
      return sendJson(reply, 200, JSON.stringify({ items: items.map(scheduleRecord), next_cursor }));
    },
  };
}
