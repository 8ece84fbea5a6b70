import { poolers } from '../../../harness/reliability/events/index.ts'
import { testDays } from './incidents.ts'

testDays(poolers)
