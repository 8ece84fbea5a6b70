import { aliasModules } from '../../../harness/module-alias.ts'

aliasModules({ kysely: 'kysely-0.28' })
await import('./kysely-cases.ts')
