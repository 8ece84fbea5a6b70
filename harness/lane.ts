// `npm run lanes`: tests with other versions of a few packages. For what is imported, harness/typescript does it.
import { join } from 'node:path'
import { findPackage } from '../lib/embedded/binaries.ts'

/** The folder where those versions are installed. */
const folder = process.env.PG_SCOPE_TEST_LANE

/** The folder of PostgreSQL's programs: the lane's version, if it has one. */
export function findPostgres (): string {
  return folder === undefined ? findPackage() : findPackage([join(folder, 'package.json')])
}
