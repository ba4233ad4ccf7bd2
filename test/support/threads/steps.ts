// Why this room exists: a handler that tells all it was told, goes on from its last checkpoint, and fails as it is asked to.
// Next room: test/roles/threads.test.ts.
import { defineHandler, JobError } from '../../../src/errand.ts';

export default defineHandler({
  type: 'steps',
  thread: true,
  async run(payload, context) {
    const { last_checkpoint, checkpoint, attempt, epoch, content_type, traceparent, deadline } = context;
    if (payload === 'permanent') throw new JobError('permanent', 'never');
    if (payload === 'large') {
      context.progress('x'.repeat(65_536));
      context.progress(1n);
      return;
    }
    if (last_checkpoint === null) {
      await checkpoint({ next: 1 });
      await checkpoint({ next: 2 });
      throw new JobError('retryable', 'half way', { retry_after_seconds: 0 });
    }
    const shown = payload instanceof Uint8Array ? [...payload] : payload;
    const left = deadline.getTime() - Date.now();
    return { shown, last_checkpoint, attempt, epoch, content_type, traceparent, in_time: left > 0 };
  },
});
