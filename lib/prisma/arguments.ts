import type { ArgumentType } from './driver-adapter.ts'

/** The value of a parameter, as a session takes it. */
export function valueOf (argument: unknown, type: ArgumentType | undefined): unknown {
  if (argument === null || argument === undefined) return null
  if (Array.isArray(argument) && type?.arity === 'list') return argument.map((element) => valueOf(element, type))
  if (argument instanceof Date) return timeOf(argument, type?.dbType)
  if (typeof argument === 'string') {
    if (type?.scalarType === 'datetime') return timeOf(new Date(argument), type.dbType)
    if (type?.scalarType === 'bytes') return Buffer.from(argument, 'base64')
  }
  if (ArrayBuffer.isView(argument)) return Buffer.from(argument.buffer, argument.byteOffset, argument.byteLength)
  return argument
}

/** In UTC: a column without a time zone ignores the offset, and any other does not depend on the server's time zone. */
function timeOf (time: Date, dbType: string | undefined): string {
  const [date, rest] = time.toISOString().split('T') as [string, string]
  const clock = rest.slice(0, -1)
  // JavaScript writes years from 10000 on with a sign and six digits.
  const day = date.replace(/^\+0?/, '')
  switch (dbType) {
    case 'DATE': return day
    case 'TIME': return clock
    case 'TIMETZ': return `${clock}+00`
    default: return `${day} ${clock}+00`
  }
}
