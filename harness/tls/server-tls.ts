import { readFileSync } from 'node:fs'
import { join } from 'node:path'

const file = (name: string): string => readFileSync(join(import.meta.dirname, name), 'utf8')

/** Key and certificate of a server on 127.0.0.1. Both are public, so they are of use in tests only. */
export const serverTls = { key: file('test-only.key'), cert: file('test-only.crt') }
