import { register } from 'node:module'
import { pathToFileURL } from 'node:url'

/**
 * What is imported from here on gets another package under the name of one: `{ kysely: 'kysely-0.28' }`. For a test
 * that runs with several versions of a library.
 */
export function aliasModules (aliases: Record<string, string>): void {
  const hooks = `
    const aliases = ${JSON.stringify(aliases)}
    export function resolve (specifier, context, next) {
      const name = specifier.split('/')[specifier.startsWith('@') ? 1 : 0]
      return next(Object.hasOwn(aliases, name) ? specifier.replace(name, aliases[name]) : specifier, context)
    }`
  register(`data:text/javascript,${encodeURIComponent(hooks)}`, pathToFileURL(import.meta.filename))
}
