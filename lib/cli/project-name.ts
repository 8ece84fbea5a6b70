import { isBuiltin } from 'node:module'
import { basename, resolve } from 'node:path'
import { UsageError } from './usage-error.ts'

/** As https://docs.npmjs.com/cli/configuring-npm/package-json#name and the registry have it. */
const permitted = /^(?:@[a-z0-9~-][a-z0-9._~-]*\/)?[a-z0-9~-][a-z0-9._~-]*$/
const scoped = /^@[^/\\]+\/[^/\\]+$/
const reserved = ['node_modules', 'favicon.ico']

/** The last part of the folder's path; both parts of `@scope/name`. */
export function projectNameOf (folder: string): string {
  return scoped.test(folder) ? folder : basename(resolve(folder))
}

/** @throws UsageError when npm would not take it as the name of a package */
export function checkProjectName (name: string): void {
  const problem = problemOf(name)
  if (problem === null) return
  const better = name.toLowerCase().replaceAll(/[^a-z0-9._~-]+/g, '-').replaceAll(/^[-._]+|-+$/g, '')
  const advice = better !== name && problemOf(better) === null ? `, for example ${better}` : ''
  const quoted = JSON.stringify(name)
  throw new UsageError(`${quoted} cannot be the name of the app: ${problem}. Choose another folder${advice}`)
}

function problemOf (name: string): string | null {
  if (name === '') return 'it is empty'
  if (name.length > 214) return `it has ${name.length} characters, and npm allows 214`
  if (!permitted.test(name)) {
    return 'npm allows lowercase letters, digits, `-`, `.`, `_` and `~`, and no `.` or `_` in front'
  }
  if (reserved.includes(name)) return 'npm reserves it'
  if (isBuiltin(name)) return 'it is a module of Node'
  return null
}
