import { execFile } from 'node:child_process'
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import t from 'tap'
import { compile, ofEcosystem, root, samplesOf } from '../docs/samples.ts'
import { areInstalled } from './ready.ts'

if (areInstalled(t)) {
  t.test('every sample of the pages about these libraries compiles as a user would compile it', async (t) => {
    const samples = ofEcosystem.filter((page) => existsSync(join(root, page))).flatMap(samplesOf)
    t.same(compile(samples, 'test/ecosystem', { experimentalDecorators: true, emitDecoratorMetadata: true }), [])
    t.ok(samples.length > 1, 'samples were found')
  })

  t.test('the tests of this folder compile strictly against the types of the libraries', async (t) => {
    const tsc = join(root, 'node_modules/typescript/bin/tsc')
    const result = await promisify(execFile)(process.execPath, [tsc, '-p', join(root, 'test/ecosystem')]).catch((error) => error)
    t.equal(result.stdout, '')
  })
}
