import { startPostgres, type EmbeddedOptions, type EmbeddedPostgres } from '../../lib/embedded/index.ts'
import { typeOf } from './expect.ts'

const options: EmbeddedOptions = { dataFolder: './data', port: 5433, settings: { max_connections: 50 }, log: line => console.log(line) }
const postgres = await startPostgres(options)
typeOf(postgres).is<EmbeddedPostgres>()
typeOf(postgres.connectionString).is<string>()
await postgres.stop()

async function temporary (): Promise<void> {
  await using server = await startPostgres()
  console.log(server.port)
}
await temporary()

// @ts-expect-error unknown
await startPostgres({ folder: './data' })
// @ts-expect-error a number
await startPostgres({ port: '5433' })
