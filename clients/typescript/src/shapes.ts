// The shapes of the wire, taken out of the OpenAPI document: a route that changes there no longer compiles here.
// Next room: schema.ts, which is generated; call.ts, which sends and reads them.
import type { operations } from './schema.ts';

/** Operations, by the name the document gives them. */
export type Operation = keyof operations;

/** The JSON an operation answers with this status. */
export type Answer<Name extends Operation, Status extends number> = operations[Name]['responses'] extends {
  [S in Status]: { content: { 'application/json': infer Body } };
}
  ? Body
  : never;

/** The JSON an operation takes. */
export type Body<Name extends Operation> = operations[Name] extends {
  requestBody?: { content: { 'application/json': infer Body } };
}
  ? Body
  : never;

/** The query an operation takes. */
export type Query<Name extends Operation> = NonNullable<operations[Name]['parameters']['query']>;

/** A job as it is submitted. */
export type NewJob = Body<'submitJob'>;
/** The record of a job. */
export type Job = Answer<'readJob', 200>;
/** How far a job is. */
export type JobStatus = Answer<'readStatus', 200>;
/** An error as it is answered (RFC 9457). */
export type Problem = operations['submitJob']['responses'][400]['content']['application/problem+json'];
/** The right to run one start of one job. */
export type Lease = Answer<'leaseJobs', 200>['leases'][number];
