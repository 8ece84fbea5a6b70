/** The user's password function failed, so that no login was tried. */
export class PasswordError extends Error {}

/**
 * pg reports what keeps it from answering a request for SASL authentication as a plain Error, whose words alone tell.
 */
const sasl = /^SASL: (?:SCRAM-SERVER-FIRST-MESSAGE: )?/
const noPassword = /client password must be a (?:non-empty )?string/

/**
 * The connection works, and the login cannot: a password is missing, or the server's part of the authentication is
 * wrong.
 */
export function isLoginFailure (error: unknown): error is Error {
  return error instanceof PasswordError || (error instanceof Error && sasl.test(error.message))
}

/** Why the login failed, in words for the user. */
export function loginReason ({ message }: Error): string {
  return noPassword.test(message) ? 'it asks for a password, and none was given' : message
}
