import type { KyselyPlugin, LogConfig } from 'kysely'

export interface KyselyOptions {
  /** As in Kysely's own config. */
  plugins?: KyselyPlugin[] | undefined
  /** As in Kysely's own config. */
  log?: LogConfig | undefined
}
