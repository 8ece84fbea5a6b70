/**
 * Errors that nobody caught, from the first import on: each would have ended the process of an app that does not
 * listen for them.
 */
export const astray: unknown[] = []

process.on('unhandledRejection', (error) => astray.push(error))
process.on('uncaughtException', (error) => astray.push(error))
