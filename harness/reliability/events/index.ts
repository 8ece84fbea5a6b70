import type { BadDay } from '../event.ts'
import { backends } from './backends.ts'
import { limits } from './limits.ts'
import { networks } from './networks.ts'
import { poolers } from './poolers.ts'
import { servers } from './servers.ts'

export const badDays: BadDay[] = [...backends, ...servers, ...poolers, ...limits, ...networks]
export { backends, limits, networks, poolers, servers }
