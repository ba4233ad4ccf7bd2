// Prints the OpenAPI document without a database, for `errand openapi` and openapi/openapi.json, which a test compares.
// Invariant: the same program prints the same bytes.
// Next room: document.ts, which makes it.
import type { Actions } from '../actions/actions.ts';
import type { Config } from '../config.ts';
import type { EventBus } from '../events.ts';
import { buildApp } from './app.ts';
import type { Metrics } from './context.ts';
import type { Health } from './health.ts';

/** The OpenAPI 3.1 document of this API. */
export async function openapiDocument(): Promise<object> {
  // No route runs, so nothing of what routes call is needed; none of the settings is shown in the document.
  const app = buildApp({
    config: { ERRAND_PAYLOAD_LIMIT_BYTES: 1, ERRAND_ROLES: ['api'] } as unknown as Config,
    actions: {} as Actions,
    events: {} as EventBus,
    metrics: {} as Metrics,
    health: {} as Health,
  });
  await app.ready();
  return app.swagger();
}
