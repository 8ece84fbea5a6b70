import { networks } from '../../../harness/reliability/events/index.ts'
import { testDays } from './incidents.ts'

testDays(networks)
