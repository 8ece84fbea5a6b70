import { servers } from '../../../harness/reliability/events/index.ts'
import { testDays } from './incidents.ts'

testDays(servers)
