import { networks } from '../../../bench/bad-days/events/index.ts'
import { testDays } from './days.ts'

testDays(networks)
