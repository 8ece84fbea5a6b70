import { createInterface, type Interface } from 'node:readline/promises'
import type { Builder, InitArguments } from './init-arguments.ts'

const builders: Record<string, Builder | null> = {
  '': null, none: null, sql: null, kysely: 'kysely', drizzle: 'drizzle', prisma: 'prisma'
}

interface Answers {
  folder: string
  javascript: boolean
  builder: Builder | null
  pgbouncer: boolean
}

/**
 * Asks on the terminal for what the command line does not say. Enter takes the default, in brackets.
 *
 * @param check rejects for a folder that cannot be used: its message is shown, and the question asked again
 * @throws when the input ends, or by Ctrl-C
 */
export async function askForAnswers (
  given: InitArguments, check: (folder: string) => Promise<unknown>
): Promise<Answers> {
  const terminal = createInterface({ input: process.stdin, output: process.stdout })
  const stopped = new Promise<never>((_resolve, reject) => {
    terminal.once('close', () => reject(new Error('\nStopped. Nothing was written')))
  })
  // Once the last question is answered, nothing waits for it.
  stopped.catch(() => {})
  try {
    return await Promise.race([ask(terminal, given, check), stopped])
  } finally {
    terminal.close()
  }
}

async function ask (
  terminal: Interface, given: InitArguments, check: (folder: string) => Promise<unknown>
): Promise<Answers> {
  const folder = given.folder ?? await askUntil(terminal, 'Folder of the new app (my-app): ', async (answer) => {
    await check(answer || 'my-app')
    return answer || 'my-app'
  })
  const javascript = given.javascript ??
    await askUntil(terminal, 'TypeScript or JavaScript? [ts/js] (ts): ', oneOf({ '': false, ts: false, js: true }))
  const builder = given.builder ??
    await askUntil(terminal, 'SQL, or a query builder? [sql/kysely/drizzle/prisma] (sql): ', oneOf(builders))
  const pgbouncer = given.pgbouncer ??
    await askUntil(terminal, 'PgBouncer in compose.yaml? [y/n] (n): ', oneOf({ '': false, y: true, n: false }))
  return { folder, javascript, builder, pgbouncer }
}

async function askUntil<T> (
  terminal: Interface, question: string, read: (answer: string) => T | Promise<T>
): Promise<T> {
  for (;;) {
    const answer = (await terminal.question(question)).trim()
    try {
      return await read(answer)
    } catch (error) {
      process.stdout.write(`${(error as Error).message}\n`)
    }
  }
}

function oneOf<T> (values: Record<string, T>): (answer: string) => T {
  return (answer) => {
    const key = answer.toLowerCase()
    if (Object.hasOwn(values, key)) return values[key] as T
    throw new Error(`Answer with one of ${Object.keys(values).filter((value) => value !== '').join(', ')}`)
  }
}
