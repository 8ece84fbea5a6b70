import type { Case } from '../case.ts'
import { answers } from './answers.ts'
import { closes } from './closes.ts'
import { hangUps } from './hang-ups.ts'
import { pools } from './pools.ts'
import { servers } from './servers.ts'

export const cases: Case[] = [...answers, ...hangUps, ...servers, ...pools, ...closes]
