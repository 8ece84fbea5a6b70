import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { ownFields } from '../../own-fields.ts'

/** How long the doctor waits for a connection, and for each answer. Milliseconds. */
export const patience = 5000

/** A client that neither waits for ever nor ends the process. It is connected by the caller. */
export function patientClient (config: pg.ClientConfig, more: object = {}): pg.Client {
  const client = new pg.Client(ownFields<object>(config, {
    connectionTimeoutMillis: patience, query_timeout: patience
  }, more) as pg.ClientConfig)
  client.on('error', () => {})
  return client
}

/** Ends a client, and closes its socket if the server does not. */
export async function dismiss (client: pg.Client): Promise<void> {
  const ended = client.end().catch(() => {})
  await Promise.race([ended, sleep(500, undefined, { ref: false })])
  client.connection.stream.destroy()
}

/** A message without the passwords of the URLs in it. */
export function withoutPasswords (text: string): string {
  return text.replaceAll(/(\b[a-z][a-z+]*:\/\/[^\s:@/]*):[^\s@]*@/gi, '$1:***@')
    .replaceAll(/(password=)[^\s&]+/gi, '$1***')
}

export function messageOf (error: unknown): string {
  const { details, message, code } = (error ?? {}) as { details?: unknown, message?: unknown, code?: unknown }
  const text = [details, message, code].find((each) => typeof each === 'string' && each !== '') ?? String(error)
  return withoutPasswords(text as string)
}
