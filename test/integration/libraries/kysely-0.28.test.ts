import { aliasModules } from '../../helpers/module-alias.ts'

aliasModules({ kysely: 'kysely-0.28' })
await import('./kysely-cases.ts')
