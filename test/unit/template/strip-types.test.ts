import t from 'tap'
import { stripTypes } from '../../../template/strip-types.ts'

t.test('JavaScript of the template is what someone would have written', async (t) => {
  const cases: [string, string, string][] = [
    ['an import of types', "import type { A } from 'a'\nimport { b } from 'b'\n", "import { b } from 'b'\n"],
    ['types among values', "import { type A, b, type C } from './a.ts'\n", "import { b } from './a.js'\n"],
    ['types beside a default', "import a, { type B } from 'a'\n", "import a from 'a'\n"],
    ['declarations', '/** A thing. */\ninterface A {\n  a: number\n}\n\ntype B = A\n\nconst b = 1\n', 'const b = 1\n'],
    ['an augmentation', "a()\n\ndeclare module 'a' {\n  interface B {}\n}\n\nb()\n", 'a()\n\nb()\n'],
    ['annotations', 'function f (a: number, b?: string): Promise<void> {\n}\n', 'function f (a, b) {\n}\n'],
    ['type arguments', 'const a = new Set<A>(f<B>(b))\n', 'const a = new Set(f(b))\n'],
    ['assertions', 'const a = b as A\nconst c = d!.e satisfies E\n', 'const a = b\nconst c = d.e\n'],
    ['an assertion in brackets', 'if ((a as A).b === c) d()\n', 'if (a.b === c) d()\n'],
    ['a condition is none', 'const a = b ? c : d\n', 'const a = b ? c : d\n'],
    ['a dynamic import', "await import('./a.ts')\n", "await import('./a.js')\n"],
    ['a type provider', 'const app = Fastify().withTypeProvider<A>()\n', 'const app = Fastify()\n'],
    ['comments and blank lines stay', '// one\n\nconst a: A = 1 // two\n', '// one\n\nconst a = 1 // two\n']
  ]
  for (const [name, typescript, javascript] of cases) t.equal(stripTypes(typescript), javascript, name)
})
