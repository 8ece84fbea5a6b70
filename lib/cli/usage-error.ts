/** What was typed cannot be meant: the process ends with status 2. Any other error ends it with 1. */
export class UsageError extends Error {}
