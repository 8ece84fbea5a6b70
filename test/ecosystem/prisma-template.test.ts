import t from 'tap'
import { areInstalled } from './ready.ts'

if (areInstalled(t)) {
  await import('./prisma-template-cases.ts')
}
