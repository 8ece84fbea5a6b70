import t from 'tap'
import { startPostgres } from '../../../lib/embedded/index.ts'
import { checkEmbeddedOptions } from '../../../lib/embedded/options.ts'

t.test('a temporary server trades durability for speed, a named data folder does not', async t => {
  t.equal(checkEmbeddedOptions().durable, false)
  t.equal(checkEmbeddedOptions({ dataFolder: 'data' }).durable, true)
  t.equal(checkEmbeddedOptions({ dataFolder: 'data', durable: false }).durable, false)
})

t.test('an unknown option or an invalid value is rejected before anything is started', async t => {
  const malformed: Array<[unknown, RegExp]> = [
    [null, /`options` must be a plain object, got null/],
    [{ prot: 5432 }, /`options.prot` is not an option. Options here: dataFolder, port/],
    [{ port: 0 }, /`options.port` must be an integer from 1 to 65535 \(leave it out to use a free port\), got 0/],
    [{ port: '5432' }, /`options.port`/],
    [{ dataFolder: '' }, /`options.dataFolder`/],
    [{ user: 'x'.repeat(64) }, /`options.user`/],
    [{ user: 'odd"name' }, /`options.user`.*without any of/],
    [{ database: 'é'.repeat(32) }, /`options.database`.*63 bytes/],
    [{ database: 'a/b' }, /`options.database`.*without any of/],
    [{ durable: 'no' }, /`options.durable`/],
    [{ log: true }, /`options.log`/],
    [{ startTimeout: 0 }, /`options.startTimeout`/],
    [{ settings: [] }, /`options.settings`/],
    [{ settings: { 'work_mem; x': 1 } }, /names of parameters/],
    [{ settings: { work_mem: Number.NaN } }, /`options.settings.work_mem` must be a string or a finite number/],
    [{ settings: { Port: 1 } }, /use the options `port`/]
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
