import type pg from 'pg'
import { kindOf } from '../kind-of.ts'
import { ownFields } from '../own-fields.ts'
import { PasswordError } from '../postgres/login.ts'
import { isText } from './option-rules.ts'

/** A client's configuration whose password function, where it has one, fails with a PasswordError: anything that it throws looks like a lost connection otherwise. */
export function withCheckedPassword (config: pg.ClientConfig): pg.ClientConfig {
  const { password } = config
  if (typeof password !== 'function') return config
  return ownFields(config, {
    password: async () => {
      let answer: unknown
      try {
        answer = await password()
      } catch (error) {
        throw new PasswordError(`the password function failed${error instanceof Error ? `: ${error.message}` : ''}`, { cause: error })
      }
      const expected = isText(answer)
      if (expected === null) return answer as string
      throw new PasswordError(`the password function must return ${expected}, got ${kindOf(answer)}`)
    }
  })
}
