import t from 'tap'
import { startPostgres } from '../../../lib/embedded/index.ts'
import { checkOptions } from '../../../lib/embedded/options.ts'

t.test('a temporary server trades durability for speed, a named data folder does not', async t => {
  t.equal(checkOptions().durable, false)
  t.equal(checkOptions({ dataFolder: 'data' }).durable, true)
  t.equal(checkOptions({ dataFolder: 'data', durable: false }).durable, false)
})

t.test('an option that is not known or would not do is refused before anything is started', async t => {
  const malformed: Array<[unknown, RegExp]> = [
    [null, /takes an object/],
    [{ prot: 5432 }, /no option 'prot'. It has: dataFolder, port/],
    [{ port: 0 }, /'port'.*leave it out for a free one/],
    [{ port: '5432' }, /'port'/],
    [{ dataFolder: '' }, /'dataFolder'/],
    [{ user: 'x'.repeat(64) }, /'user'/],
    [{ user: 'odd"name' }, /'user'.*without any of/],
    [{ database: 'é'.repeat(32) }, /'database'.*63 bytes/],
    [{ database: 'a/b' }, /'database'.*without any of/],
    [{ durable: 'no' }, /'durable'/],
    [{ log: true }, /'log'/],
    [{ startTimeout: 0 }, /'startTimeout'/],
    [{ settings: [] }, /'settings'/],
    [{ settings: { 'work_mem; x': 1 } }, /not the name of a parameter/],
    [{ settings: { work_mem: Number.NaN } }, /'work_mem'/],
    [{ settings: { Port: 1 } }, /use the options 'port'/]
  ]
  for (const [options, message] of malformed) {
    await t.rejects(startPostgres(options as never), { code: 'FST_PG_SCOPE_OPTIONS', message })
  }
})

t.test('a password that is refused is not shown', async t => {
  const error = await startPostgres({ password: 'two\nlines' }).catch(error => error)
  t.equal(error.code, 'FST_PG_SCOPE_OPTIONS')
  t.notMatch(error.message, /lines/)
})
