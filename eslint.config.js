import neostandard, { plugins } from 'neostandard'

const stylistic = plugins['@stylistic']
// A regular expression stays on one line.
const length = { code: 120, ignoreUrls: true, ignoreRegExpLiterals: true }

// Lines are still longer in these files: shorten them, and take them out of the list.
const notYet = [
  'test/integration/libraries/drizzle-cases.ts',
  'test/integration/request-outcome/outcome-cases.ts',
  'test/types/drizzle.test-d.ts',
  'test/unit/request/outcome.test.ts'
]

export default [
  ...neostandard({
    ts: true,
    ignores: ['**/dist/**', '.tap/**', 'site/content/**', 'site/.vitepress/cache/**', 'test/ecosystem/generated/**']
  }),
  {
    files: ['lib/**/*.ts', 'types/**/*.ts'],
    plugins: { '@stylistic': stylistic },
    rules: { '@stylistic/max-len': ['error', length] }
  },
  {
    files: ['test/**/*.ts', 'harness/**/*.ts', 'bench/**/*.ts', 'examples/**/*.ts', 'template/**/*.ts', 'site/**/*.ts'],
    ignores: notYet,
    plugins: { '@stylistic': stylistic },
    rules: {
      // A test's name, and SQL, are easier to search for on one line.
      '@stylistic/max-len': ['error', { ...length, ignoreStrings: true, ignoreTemplateLiterals: true }]
    }
  }
]
