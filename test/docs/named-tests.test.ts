import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'

const root = join(import.meta.dirname, '../..')
const pages = readdirSync(join(root, 'docs')).filter((name) => name.endsWith('.md'))

/** `pool/connection-limits.test.ts` stands for the one in test/integration. */
function pathOf (file: string): string | undefined {
  return [join(root, file), join(root, 'test/integration', file)].find(existsSync)
}

/** Each file of tests that a page names, with the names of tests that follow it in quotation marks. */
function namedIn (page: string): { file: string, names: string[] }[] {
  const text = readFileSync(join(root, 'docs', page), 'utf8')
  return Array.from(text.matchAll(/`([\w/.-]+(?:\.test|-cases)\.ts)`(?::((?:(?:, | and |, and | )?"[^"]+")+))?/g), ([, file, names = '']) => ({
    file: file!,
    names: Array.from(names.matchAll(/"([^"]+)"/g), ([, name]) => name!)
  }))
}

t.test('the tests that the docs name are there, under these names', async (t) => {
  let count = 0
  for (const page of pages) {
    for (const { file, names } of namedIn(page)) {
      const path = pathOf(file)
      if (path === undefined) {
        t.fail(`${page}: there is no ${file}`)
        continue
      }
      const source = readFileSync(path, 'utf8').replaceAll("\\'", "'").replaceAll('\\`', '`')
      for (const name of names) {
        count++
        t.ok(name.split('…').every((part) => source.includes(part.trim())), `${page}: ${file} has "${name}"`)
      }
    }
  }
  t.ok(count > 55, `${count} names`)
})
