// A program that starts a PgBouncer in front of the server that it is told of, says where it is, and waits for its
// death.
import { startPgBouncer } from '../pgbouncer.ts'

const { server, program } = JSON.parse(process.argv[2] as string)
const pgBouncer = await startPgBouncer({ teardown: () => {} }, server, { program })
const [authFile] = (await pgBouncer.admin('SHOW CONFIG')).filter(({ key }) => key === 'auth_file')
console.log(
  JSON.stringify({ pid: pgBouncer.pid, connectionString: pgBouncer.connectionString, authFile: authFile?.value })
)
setInterval(() => {}, 1000)
