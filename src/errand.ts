// What handler modules import from "errand": the way to declare a handler and to say how it failed.
// Next room: roles/worker/handlers.ts.
export { defineHandler, type Handler, type HandlerContext, JobError } from './roles/worker/handlers.ts';
