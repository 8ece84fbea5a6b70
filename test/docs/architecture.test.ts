import { existsSync, readFileSync, readdirSync } from 'node:fs'
import { join } from 'node:path'
import t from 'tap'

const root = join(import.meta.dirname, '../..')
const page = readFileSync(join(root, 'docs/architecture.md'), 'utf8')

t.test('every file and folder of lib that the map names is there', async (t) => {
  const named = new Set(Array.from(page.matchAll(/`((?:lib|types|test)\/[\w./-]*)`/g), ([, path]) => path!))
  t.same([...named].filter((path) => !existsSync(join(root, path))), [])
  t.ok(named.size > 40, `${named.size} names`)
})

t.test('every folder of lib is on the map', async (t) => {
  const folders = readdirSync(join(root, 'lib'), { withFileTypes: true }).filter((entry) => entry.isDirectory())
  t.same(folders.filter(({ name }) => !page.includes(`| \`lib/${name}/\` |`)).map(({ name }) => name), [])
})

t.test('the state diagram has exactly the changes that the code permits', async (t) => {
  const source = readFileSync(join(root, 'lib/exchange/states.ts'), 'utf8')
  const permitted = Array.from(source.matchAll(/^ {2}(\w+): \[(.*?)\]/gm), ([, from, list]) =>
    Array.from(list!.matchAll(/'(\w+)'/g), ([, to]) => `${from} --> ${to}`)).flat()
    // A session whose transaction has ended is idle or closed.
    .flatMap((arrow) => arrow.endsWith('ended') ? ['settling --> idle', 'settling --> closed'] : [arrow])
    .concat('idle --> opening', 'idle --> closed')
  const drawn = Array.from(page.matchAll(/^ {2}(\w+ --> \w+)/gm), ([, arrow]) => arrow!)
  t.same(drawn.sort(), permitted.sort())
})
