import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createRequire } from 'node:module'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import type { Variant } from './choice.ts'
import { TapReader, type Tally } from './tally.ts'

const tap = createRequire(import.meta.url).resolve('tap/package.json')
const program = join(tap, '..', createRequire(import.meta.url)(tap).bin.tap)

/** Runs test files in a variant, as `npm test` would. What fails is shown at once. */
export async function run (files: readonly string[], { through, strategy }: Variant): Promise<Tally> {
  const child = spawn(process.execPath, [program, '--reporter=tap', ...files], {
    env: { ...process.env, PG_SCOPE_TEST_THROUGH: through, PG_SCOPE_TEST_STRATEGY: strategy },
    stdio: ['ignore', 'pipe', 'inherit']
  })
  const reader = new TapReader((line) => { console.log(line) })
  const ended = once(child, 'close') as Promise<[number | null]>
  for await (const line of createInterface({ input: child.stdout })) reader.line(line)
  const [code] = await ended
  return reader.tally(code ?? 1, { maySkip: process.env.CI !== 'true' })
}
