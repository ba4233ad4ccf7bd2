// The schedules of the settings, as a service of the start: a file with a fault refuses the start.
// Invariant: they are defined by the same calls anybody makes, before anybody else can call.
// Next room: declared.ts, which reads and applies them.
import { type Ask, applyDeclared, readDeclared, saidOf, sumOf } from '../declared.ts';
import type { EventBus } from '../events.ts';
import type { App } from '../http/app.ts';
import type { Service } from '../roles/service.ts';

/** Defines the schedules of `text` when it starts. */
export function declaring(app: App, text: string, events: EventBus): Service {
  return {
    name: 'schedules',
    async start() {
      const ask: Ask = async (method, url, headers, payload) => {
        const sent = { 'content-type': 'application/json', 'errand-actor': 'ERRAND_SCHEDULES', ...headers };
        const answer = await app.inject({ method, url, headers: sent, payload });
        return {
          status: answer.statusCode,
          etag: answer.headers.etag as string | undefined,
          body: answer.body,
        };
      };
      const say = (level: 'info' | 'warn', message: string) =>
        events.emit('service.said', { level, message });
      const all = await applyDeclared(readDeclared(text, 'ERRAND_SCHEDULES'), ask, {
        dry: false,
        onApplied: (applied) => {
          if (applied.hasEnded) say('warn', `schedule ${saidOf(applied)}`);
          else if (applied.done !== 'unchanged') say('info', `schedule ${saidOf(applied)}`);
        },
      });
      say('info', sumOf(all));
    },
    stop: async () => {},
  };
}
