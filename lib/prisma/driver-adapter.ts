// The part of Prisma's interface of driver adapters (@prisma/driver-adapter-utils) that is used, so that it is no
// dependency.

/** What Prisma calls the types of columns and arrays. */
export const ColumnType = {
  Int32: 0,
  Int64: 1,
  Float: 2,
  Double: 3,
  Numeric: 4,
  Boolean: 5,
  Character: 6,
  Text: 7,
  Date: 8,
  Time: 9,
  DateTime: 10,
  Json: 11,
  Bytes: 13,
  Uuid: 15,
  Int32Array: 64,
  Int64Array: 65,
  FloatArray: 66,
  DoubleArray: 67,
  NumericArray: 68,
  BooleanArray: 69,
  CharacterArray: 70,
  TextArray: 71,
  DateArray: 72,
  TimeArray: 73,
  DateTimeArray: 74,
  JsonArray: 75,
  BytesArray: 77,
  UuidArray: 78
} as const

export type AnyColumnType = typeof ColumnType[keyof typeof ColumnType]

/** What Prisma knows of a parameter. */
export interface ArgumentType {
  scalarType: string
  /** The native type of the schema, such as `TIMETZ`. */
  dbType?: string
  arity: 'scalar' | 'list'
}

export interface SqlQuery {
  sql: string
  args: unknown[]
  argTypes: ArgumentType[]
}

export interface SqlResultSet {
  columnNames: string[]
  columnTypes: AnyColumnType[]
  rows: unknown[][]
}

export type AdapterIsolation = 'READ UNCOMMITTED' | 'READ COMMITTED' | 'REPEATABLE READ' | 'SNAPSHOT' | 'SERIALIZABLE'

interface SqlQueryable {
  readonly provider: 'postgres'
  readonly adapterName: string
  queryRaw (query: SqlQuery): Promise<SqlResultSet>
  executeRaw (query: SqlQuery): Promise<number>
}

export interface AdapterTransaction extends SqlQueryable {
  /** With a phantom query Prisma sends no COMMIT or ROLLBACK itself. */
  readonly options: { usePhantomQuery: boolean }
  commit (): Promise<void>
  rollback (): Promise<void>
  createSavepoint (name: string): Promise<void>
  rollbackToSavepoint (name: string): Promise<void>
  releaseSavepoint (name: string): Promise<void>
}

export interface DriverAdapter extends SqlQueryable {
  executeScript (script: string): Promise<void>
  startTransaction (isolation?: AdapterIsolation): Promise<AdapterTransaction>
  getConnectionInfo (): { schemaName?: string, supportsRelationJoins: boolean }
  dispose (): Promise<void>
}
