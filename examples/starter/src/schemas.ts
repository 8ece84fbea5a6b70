import { Type } from 'typebox'

/** What a JSON number can say of a whole number without rounding. */
const exact = Number.MAX_SAFE_INTEGER

/** Larger than the database's own: an id that cannot exist is one that does not exist. */
export const Id = Type.Integer({ minimum: 1, maximum: exact })

/** Whole cents. */
export const Amount = Type.Integer({ minimum: 1, maximum: 1_000_000_000 })
export const OpeningBalance = Type.Integer({ minimum: 0, maximum: 1_000_000_000_000 })
export const Balance = Type.Integer({ minimum: 0, maximum: exact })

/** Something to read. PostgreSQL cannot store U+0000, and UTF-8 no half of a surrogate pair. */
export const Owner = Type.String({ minLength: 1, maxLength: 200, pattern: '^[^\\p{Cc}\\p{Cs}]*[^\\p{Cc}\\p{Cs}\\s][^\\p{Cc}\\p{Cs}]*$' })

/** As Fastify sends errors. */
export const Problem = Type.Object({
  statusCode: Type.Integer(),
  code: Type.Optional(Type.String()),
  error: Type.String(),
  message: Type.String()
})
