import type pg from 'pg'
import { kindOf } from '../kind-of.ts'
import { ownFields } from '../own-fields.ts'
import { PasswordError } from '../postgres/login.ts'
import { isText } from './option-rules.ts'

/**
 * Wraps the password function of a client's configuration, if it has one, so that it fails with a PasswordError.
 * Without that, an error that the function throws could not be distinguished from a lost connection.
 */
export function withCheckedPassword (config: pg.ClientConfig): pg.ClientConfig {
  const { password } = config
  if (typeof password !== 'function') return config
  return ownFields(config, {
    password: async () => {
      let answer: unknown
      try {
        answer = await password()
      } catch (error) {
        const reason = error instanceof Error ? `: ${error.message}` : ''
        throw new PasswordError(`the password function failed${reason}`, { cause: error })
      }
      const expected = isText(answer)
      if (expected === null) return answer as string
      throw new PasswordError(`the password function must return ${expected}, got ${kindOf(answer)}`)
    }
  })
}
