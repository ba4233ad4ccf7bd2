// The smallest handler: what comes in goes out. POST {"type":"echo","payload":…} to try it.
import { defineHandler } from 'errand';

export default defineHandler({
  type: 'echo',
  run: (payload) => payload,
});
