import { setTimeout as sleep } from 'node:timers/promises'
import pg from 'pg'
import { cancelRequest } from '../../postgres/cancel.ts'
import { dismiss, patientClient } from './ask.ts'
import type { Probe, ProbeFacts } from './facts.ts'

/** How long a probe may take. Milliseconds. */
const limit = 2500
const cancelInterval = 150

/** Tries what the plugin relies on, on connections of its own: harmless statements, each within a limit of time. */
export async function probe (config: pg.ClientConfig): Promise<ProbeFacts> {
  return { pipelining: await probePipelining(config), cancel: await probeCancel(config) }
}

/** Statements that are sent without waiting for each other, each with a Sync of its own. */
async function probePipelining (config: pg.ClientConfig): Promise<Probe> {
  const client = patientClient(config, { pipeline: true, query_timeout: 0 })
  try {
    await client.connect()
    const questions = [1, 2, 3, 4, 5]
    const answers = Promise.all(questions.map(async (number) =>
      (await client.query('SELECT $1::int AS number', [number])).rows[0]?.number as number))
    answers.catch(() => {})
    const result = await Promise.race([answers, sleep(limit, null, { ref: false })])
    if (result === null) return 'no answer'
    return result.every((number, index) => number === questions[index]) ? 'works' : 'fails'
  } catch {
    return 'fails'
  } finally {
    await dismiss(client)
  }
}

/** The statement ends by itself soon after the limit, whatever happens to the request. */
async function probeCancel (config: pg.ClientConfig): Promise<Probe> {
  const client = patientClient(config, { query_timeout: 0 })
  try {
    await client.connect()
    const statement = client.query(`SELECT pg_sleep(${limit / 1000 + 0.5})`).then(() => 'fails', (error) =>
      error instanceof pg.DatabaseError && error.code === '57014' ? 'works' : 'fails') as Promise<Probe>
    const deadline = performance.now() + limit
    while (performance.now() < deadline) {
      // One that arrives before the statement runs has no effect.
      const answer = await Promise.race([statement, sleep(cancelInterval, null, { ref: false })])
      if (answer !== null) return answer
      await cancelRequest(client)
    }
    return await Promise.race([statement, sleep(cancelInterval, 'no answer' as const, { ref: false })])
  } catch {
    return 'not tried'
  } finally {
    await dismiss(client)
  }
}
