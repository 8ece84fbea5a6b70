import type { Case } from '../case.ts'

/** More requests than connections. */
export const pools: Case[] = [
  {
    name: '60 requests on 3 connections',
    setup: { max: 3 },
    async run (context) { await Promise.all(Array.from({ length: 60 }, () => context.post('/success'))) }
  },
  {
    name: 'pool exhausted, 1 s to wait',
    setup: { max: 1, acquireTimeout: 1000 },
    async run (context) {
      const holder = context.get('/slow?seconds=2')
      await context.running('SELECT pg_sleep')
      const { status, milliseconds, retryAfter } = await context.post('/success')
      await holder
      return [`${status === 0 ? 'no answer' : status} after ${(milliseconds / 1000).toFixed(1)} s${retryAfter === undefined ? '' : ', with Retry-After'}`]
    }
  }
]
