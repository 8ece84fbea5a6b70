import type { FastifyReply } from 'fastify'

type Trailers = Record<string, unknown> | null

let key: symbol | null | undefined

/** Fastify has no way to ask for all trailers of a reply: its own property is looked up once. */
function trailersOf (reply: FastifyReply): Trailers {
  if (key === undefined) key = Object.getOwnPropertySymbols(reply).find(({ description }) => description === 'fastify.reply.trailers') ?? null
  return key === null ? null : (reply as unknown as Record<symbol, Trailers | undefined>)[key] ?? null
}

/** The names of a reply's trailers, or null where it has none. */
export function trailerNames (reply: FastifyReply): string[] | null {
  const trailers = trailersOf(reply)
  if (trailers === null) return null
  const names = Object.keys(trailers).filter((name) => typeof trailers[name] === 'function')
  return names.length === 0 ? null : names
}
