/** The user's password function failed, so no login was attempted. */
export class PasswordError extends Error {}

/**
 * pg reports a failed SASL authentication as a plain Error, which only its text identifies.
 */
const sasl = /^SASL: (?:SCRAM-SERVER-FIRST-MESSAGE: )?/
const noPassword = /client password must be a (?:non-empty )?string/

/**
 * The server was reached, but the login cannot succeed: a password is missing, or the server's part of the
 * authentication is wrong.
 */
export function isLoginFailure (error: unknown): error is Error {
  return error instanceof PasswordError || (error instanceof Error && sasl.test(error.message))
}

/** Why a connection could not be opened, for an error message. */
export function failureReason (error: unknown): string {
  if (isLoginFailure(error)) return loginReason(error)
  return (error as Error)?.message || (error as { code?: string })?.code || String(error)
}

/** The reason of a failed login, for an error message. */
export function loginReason ({ message }: Error): string {
  return noPassword.test(message) ? 'it requires a password, and none was given' : message
}
