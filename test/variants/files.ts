import { readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'

/** This one goes through all variants by itself. */
const elsewhere = ['test/integration/pool/strategy.test.ts']

/** The test files among and below the given paths, in order. tap would run every file of a folder. */
export function testFiles (paths: readonly string[]): string[] {
  const files = paths.flatMap((path) => {
    if (!statSync(path).isDirectory()) return [path]
    const names = readdirSync(path, { recursive: true, encoding: 'utf8' })
    return names.filter((name) => name.endsWith('.test.ts')).map((name) => join(path, name))
  })
  return [...new Set(files)].filter((file) => !elsewhere.includes(file)).sort()
}
