import { defineConfig } from 'prisma/config'

// `prisma generate` would download the engine of `prisma db` and `prisma migrate`, and does not use it: any file does.
if (process.argv[2] === 'generate') process.env.PRISMA_SCHEMA_ENGINE_BINARY ??= process.execPath

export default defineConfig({
  schema: 'prisma/schema.prisma',
  // For `prisma db pull`. The app reads its own.
  datasource: { url: process.env.DATABASE_URL ?? '' }
})
