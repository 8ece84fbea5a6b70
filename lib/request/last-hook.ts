import type { FastifyRequest, RouteOptions } from 'fastify'

let contextKey: symbol | undefined

/**
 * Keeps a hook of this plugin the last of a route, even if other plugins append theirs later. An error in a hook that
 * ran after COMMIT could not undo it.
 */
export function runLast (route: RouteOptions, name: 'onSend' | 'preHandler', last: Function): void {
  let hooks: unknown[] = []
  const set = (value: unknown): void => {
    hooks = (Array.isArray(value) ? value : value === undefined ? [] : [value]).filter((hook) => hook !== last)
  }
  set(route[name])
  Object.defineProperty(route, name, {
    configurable: true,
    enumerable: true,
    get () {
      const place = hooks.indexOf(last)
      if (place !== -1) hooks.splice(place, 1)
      hooks.push(last)
      return hooks
    },
    set
  })
}

/**
 * The same for a 404 handler and for a route that was declared before the plugin. Fastify has already created their
 * list of hooks, so the first request appends this plugin's hook. It also runs for that request, because Fastify checks
 * for the end of the list after each hook.
 *
 * @returns false if this version of Fastify keeps the list elsewhere
 */
export function runsLast (request: FastifyRequest, settle: Function): boolean {
  contextKey ??= Object.getOwnPropertySymbols(request).find(({ description }) => description === 'fastify.context')
  if (contextKey === undefined) return false
  const hooks = (request as unknown as Record<symbol, { onSend?: unknown[] | null }>)[contextKey]?.onSend
  if (!Array.isArray(hooks)) return false
  if (hooks.at(-1) !== settle) hooks.push(settle)
  return true
}
