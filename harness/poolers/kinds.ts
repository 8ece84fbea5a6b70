// The poolers other than PgBouncer: how each is configured and started.
import { writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { PgBouncerServer } from '../pgbouncer.ts'

export interface PoolerPlan {
  /** Belongs to the account, and is removed at the end. */
  readonly folder: string
  readonly port: number
  readonly server: PgBouncerServer
}

/** A pooler that .ci/poolers installs. */
export interface PoolerKind {
  readonly name: 'odyssey' | 'pgpool'
  /** What its log says when it accepts connections. */
  readonly listening: string
  /** The signal that ends it at once and lets it remove its shared memory. */
  readonly stop: NodeJS.Signals
  /** Writes its files. @returns the arguments of its program */
  prepare (plan: PoolerPlan): Promise<string[]>
}

/** The number of connections to PostgreSQL, as default_pool_size in docs/pgbouncer.ini. */
const poolSize = 20
/** Above the number of connections that any test opens. */
const mostClients = 64

const odyssey: PoolerKind = {
  name: 'odyssey',
  listening: 'listening on',
  stop: 'SIGINT',
  prepare: async ({ folder, port, server }) => {
    const file = join(folder, 'odyssey.conf')
    await writeFile(file, `
daemonize no
workers 2
log_format "%p %t %l [%i %s] (%c) %m\\n"
log_to_stdout yes
log_config no
log_session no
locks_dir "${folder}"
coroutine_stack_size 24
listen {
  host "127.0.0.1"
  port ${port}
}
storage "server" {
  type "remote"
  host "${server.host}"
  port ${server.port}
}
database default {
  user "${server.user}" {
    authentication "scram-sha-256"
    password "${server.password}"
    storage "server"
    storage_password "${server.password}"
    pool "transaction"
    pool_size ${poolSize}
    pool_timeout 10000
    pool_discard no
    pool_reserve_prepared_statement yes
    client_fwd_error yes
  }
}
`, { mode: 0o600 })
    return [file]
  }
}

/** Streaming replication mode with one server: each client has a server connection of its own. */
const pgpool: PoolerKind = {
  name: 'pgpool',
  listening: 'successfully started',
  stop: 'SIGINT',
  prepare: async ({ folder, port, server }) => {
    const file = (name: string) => join(folder, name)
    await writeFile(file('pool_passwd'), `${server.user}:TEXT${server.password}\n`, { mode: 0o600 })
    await writeFile(file('pcp.conf'), '')
    await writeFile(file('pool_hba.conf'), 'host all all 127.0.0.1/32 scram-sha-256\n')
    await writeFile(file('pgpool.conf'), `
backend_clustering_mode = 'streaming_replication'
listen_addresses = '127.0.0.1'
port = ${port}
socket_dir = '${folder}'
pcp_listen_addresses = ''
pcp_socket_dir = '${folder}'
pcp_port = ${port}
wd_ipc_socket_dir = '${folder}'
backend_hostname0 = '${server.host}'
backend_port0 = ${server.port}
backend_weight0 = 1
backend_flag0 = 'ALWAYS_PRIMARY|DISALLOW_TO_FAILOVER'
enable_pool_hba = on
pool_passwd = '${file('pool_passwd')}'
num_init_children = ${mostClients}
max_pool = 1
load_balance_mode = on
sr_check_period = 0
memory_cache_enabled = off
failover_on_backend_error = off
pid_file_name = '${file('pgpool.pid')}'
logdir = '${folder}'
`, { mode: 0o600 })
    return ['-n', '-f', file('pgpool.conf'), '-F', file('pcp.conf'), '-a', file('pool_hba.conf')]
  }
}

export const poolerKinds: readonly PoolerKind[] = [odyssey, pgpool]
