export type * from './engine.ts'
export type * from './options.ts'
export type * from './query.ts'
export type * from './session.ts'
