import type pg from 'pg'
import { kindOf } from '../kind-of.ts'
import { isText } from '../option-rules.ts'
import { ownFields } from '../own-fields.ts'

/** The user's password function failed, so that no login was tried. */
export class PasswordError extends Error {}

/** pg reports what keeps it from answering a request for SASL authentication as a plain Error, whose words alone tell. */
const sasl = /^SASL: (?:SCRAM-SERVER-FIRST-MESSAGE: )?/
const noPassword = /client password must be a (?:non-empty )?string/

/** The connection works, and the login cannot: a password is missing, or the server's part of the authentication is wrong. */
export function isLoginFailure (error: unknown): error is Error {
  return error instanceof PasswordError || (error instanceof Error && sasl.test(error.message))
}

/** Why the login failed, in words for the user. */
export function loginReason ({ message }: Error): string {
  return noPassword.test(message) ? 'it asks for a password, and none was given' : message
}

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
