import { type AnyColumnType, ColumnType } from './driver-adapter.ts'
import { DriverAdapterError } from './adapter-error.ts'

/** The first OID of what is not built in: enums, domains, types of extensions. Prisma reads them as text. */
const firstUserDefined = 16384

/** By the OID of the type, and of its array (pg_type.dat of PostgreSQL). */
const scalars: [name: keyof typeof ColumnType, ...oids: [type: number, array: number][]][] = [
  ['Boolean', [16, 1000]],
  ['Bytes', [17, 1001]],
  ['Character', [18, 1002]],
  ['Int32', [21, 1005], [23, 1007]],
  ['Int64', [20, 1016], [26, 1028]],
  ['Float', [700, 1021]],
  ['Double', [701, 1022]],
  ['Numeric', [1700, 1231], [790, 791]],
  ['Date', [1082, 1182]],
  ['Time', [1083, 1183], [1266, 1270]],
  ['DateTime', [1114, 1115], [1184, 1185]],
  ['Json', [114, 199], [3802, 3807]],
  ['Uuid', [2950, 2951]],
  // name, text, bpchar, varchar, bit, varbit, cidr, inet, xml
  ['Text', [19, 1003], [25, 1009], [1042, 1014], [1043, 1015], [1560, 1561], [1562, 1563], [650, 651], [869, 1041],
    [142, 143]]
]

const columnTypes: Record<number, AnyColumnType> = {}
for (const [name, ...oids] of scalars) {
  for (const [type, array] of oids) {
    columnTypes[type] = ColumnType[name]
    columnTypes[array] = ColumnType[`${name}Array` as keyof typeof ColumnType]
  }
}

/** @throws DriverAdapterError for a built-in type that Prisma cannot represent, such as interval */
export function columnTypeOf (oid: number): AnyColumnType {
  const found = columnTypes[oid]
  if (found !== undefined) return found
  if (oid >= firstUserDefined) return ColumnType.Text
  throw new DriverAdapterError({ kind: 'UnsupportedNativeDataType', type: `with the OID ${oid}` })
}
