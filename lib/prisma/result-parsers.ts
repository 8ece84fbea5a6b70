// How the values of a result become what Prisma expects. They do not depend on pg's own parsers, which an app may have
// changed for all of its queries.
import pg, { type CustomTypesConfig } from 'pg'

type Parser = (text: string) => unknown

const asIs: Parser = (text) => text

/** `2026-01-31 12:00:00.5+02` in UTC. What is no such time, as `infinity`, stays as it is. */
function timestamptz (text: string): string {
  const found = /^(\d+-\d\d-\d\d) (\d\d:\d\d:\d\d)(\.\d+)?([+-]\d\d)(?::(\d\d))?(?::(\d\d))?$/.exec(text)
  if (found === null) return text
  const [, date, time, fraction = '', hours, minutes = '00', seconds] = found
  if (seconds === undefined) return `${date}T${time}${fraction}${hours}:${minutes}`
  // Offsets before the time zones: JavaScript does not read their seconds.
  const offset = Number(hours) * 3600 + (hours!.startsWith('-') ? -1 : 1) * (Number(minutes) * 60 + Number(seconds))
  return new Date(Date.parse(`${date}T${time}${fraction}Z`) - offset * 1000).toISOString()
}

/** `12:00:00.5+02` in UTC. */
function timetz (text: string): string {
  const found = /^(\d\d:\d\d:\d\d(?:\.\d+)?)([+-]\d\d)(?::(\d\d))?/.exec(text)
  if (found === null) return text
  const [, time, hours, minutes = '00'] = found
  return new Date(`1970-01-01T${time}${hours}:${minutes}`).toISOString().slice(11, -1)
}

const scalars: [array: number, type: number, parse: Parser][] = [
  [1000, 16, (text) => text === 't'],
  [1001, 17, (text) => Buffer.from(text.slice(2), 'hex')],
  [1005, 21, Number],
  [1007, 23, Number],
  [1021, 700, Number],
  [1022, 701, Number],
  [791, 790, (text) => text.replaceAll(/[^\d.-]/g, '')],
  [1115, 1114, (text) => `${text.replace(' ', 'T')}+00:00`],
  [1185, 1184, timestamptz],
  [1270, 1266, timetz]
]
/** Arrays whose elements Prisma takes as text: of "char", name, text, int8, oid, numeric, date, time, json, uuid, … */
const arraysOfText = [
  1002, 1003, 1009, 1014, 1015, 1016, 1028, 1231, 1182, 1183, 199, 3807, 2951, 1561, 1563, 651, 1041, 143
]

const parseArray = (parse: Parser): Parser => {
  const transform = (element: string | null): unknown => element === null ? null : parse(element)
  return (text) => arrayParser.create(text, transform).parse()
}
/** pg exports it; its types say otherwise. */
const { arrayParser } = pg.types as unknown as {
  arrayParser: { create (text: string, transform: (element: string | null) => unknown): { parse (): unknown[] } }
}

const parsers: Record<number, Parser> = {}
for (const [array, type, parse] of scalars) {
  parsers[type] = parse
  parsers[array] = parseArray(parse)
}
for (const array of arraysOfText) parsers[array] = parseArray(asIs)

/** Type parsers for pg. What is not here Prisma takes as text. */
export const types: CustomTypesConfig = { getTypeParser: (oid: number) => parsers[oid] ?? asIs }
