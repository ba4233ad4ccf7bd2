// What the package offers. Next room: errand.ts, the client; worker.ts, the loop of a pull worker.
export { JobFailed } from './ending.ts';
export {
  type Accepted,
  type Done,
  Errand,
  type JobFilter,
  type ManyOptions,
  type SubmitOptions,
} from './errand.ts';
export type { JobEvent } from './events.ts';
export { ErrandProblem, Stripped, UnexpectedAnswer } from './problem.ts';
export type { Job, JobStatus, NewJob, Problem } from './shapes.ts';
export { type Handler, type Run, Worker, type WorkerOptions } from './worker.ts';
