import { buildApp } from './app.js'

const { DATABASE_URL: connectionString, HOST: host = '127.0.0.1', PORT: port = '3000' } = process.env
const app = await buildApp({ connectionString }, { logger: true })
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => { app.close() })
await app.listen({ host, port: Number(port) })
