// Whose names and keys something has. There is one tenant so far; every key that callers choose has it all the same, so that
// more of them will need no other keys.
// Next room: job.ts, whose names these are.

export const tenant = 0;
