import { limits } from '../../../harness/reliability/events/index.ts'
import { testDays } from './incidents.ts'

testDays(limits)
