/** NAMEDATALEN - 1 (https://www.postgresql.org/docs/current/sql-syntax-lexical.html), in bytes. */
export const longestIdentifier = 63

/** Whether PostgreSQL takes it as a name, quoted, and does not truncate it. */
export function isIdentifier (value: unknown): value is string {
  return typeof value === 'string' && value !== '' && !value.includes('\0') &&
    Buffer.byteLength(value) <= longestIdentifier
}
