import { aliasModules } from '../../../harness/module-alias.ts'

aliasModules({ 'drizzle-orm': 'drizzle-orm-1' })
await import('./drizzle-cases.ts')
