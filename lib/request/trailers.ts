import type { FastifyReply } from 'fastify'

type Trailers = Record<string, unknown> | null

let key: symbol | null | undefined

/** Fastify has no public method that lists the trailers of a reply: finds its private property once. */
function trailersOf (reply: FastifyReply): Trailers {
  if (key === undefined) {
    const symbols = Object.getOwnPropertySymbols(reply)
    key = symbols.find(({ description }) => description === 'fastify.reply.trailers') ?? null
  }
  return key === null ? null : (reply as unknown as Record<symbol, Trailers | undefined>)[key] ?? null
}

/** The names of a reply's trailers, or null if it has none. */
export function trailerNames (reply: FastifyReply): string[] | null {
  const trailers = trailersOf(reply)
  if (trailers === null) return null
  const names = Object.keys(trailers).filter((name) => typeof trailers[name] === 'function')
  return names.length === 0 ? null : names
}
