import t from 'tap'
import { choose, shareOf } from '../../variants/choice.ts'
import { testFiles } from '../../variants/files.ts'

const namesOf = (...args: string[]) => choose(args).variants.map(({ name }) => name)

t.test('all variants and the whole foundation, unless arguments choose', async (t) => {
  t.same(namesOf(), ['1.18/queue', '1.18/null', 'newest/queue', 'newest/null', 'direct/null'])
  t.same(namesOf('1.26', 'direct/queue'), ['1.26/queue', '1.26/null', 'direct/queue'])
  const { variants: [variant], paths, spread } = choose(['--spread', 'test/integration/session', '1.18/null', 'test/integration/soak.test.ts'])
  t.same(variant, { name: '1.18/null', through: '1.18', strategy: 'null' })
  t.same(paths, ['test/integration/session', 'test/integration/soak.test.ts'])
  t.equal(spread, true)
  t.throws(() => choose(['--sprad']), { message: /^--sprad: expected --spread, variants/ })
})

t.test('behind other poolers a choice of files runs, unless others are named', async (t) => {
  const { variants, paths } = choose(['odyssey/queue', 'pgpool/queue'])
  t.same(variants.map(({ through, strategy }) => `${through} ${strategy}`), ['odyssey queue', 'pgpool queue'])
  t.equal(testFiles(paths).length, paths.length)
  t.same(choose(['odyssey/null', 'test/integration/soak.test.ts']).paths, ['test/integration/soak.test.ts'])
})

t.test('of a folder only the tests are run, and each file once', async (t) => {
  const files = testFiles([...choose([]).paths, 'test/integration/soak.test.ts'])
  t.ok(files.includes('test/integration/request-outcome/commit.test.ts'))
  t.ok(files.includes('test/integration/soak.test.ts'))
  t.notOk(files.includes('test/integration/request-outcome/outcome-cases.ts'))
  t.equal(new Set(files).size, files.length)
})

t.test('spread over the variants, every file is in exactly one share', async (t) => {
  const files = testFiles(choose([]).paths)
  const shares = [0, 1, 2].map((index) => shareOf(files, index, 3))
  t.same(shares.flat().sort(), files)
  for (const share of shares) t.ok(Math.abs(share.length - files.length / 3) < 1)
})
