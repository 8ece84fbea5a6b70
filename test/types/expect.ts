/**
 * True when A and B are the same type, `any` and `readonly` told apart: two generic functions are equal only if their
 * conditions are.
 */
export type Equal<A, B> = (<T>() => T extends A ? 1 : 2) extends (<T>() => T extends B ? 1 : 2) ? true : false

/** Compiles for `true` alone: `expect<Equal<Found, Wanted>>()`. */
export declare function expect<T extends true> (): T

/** The same for a value: `typeOf(found).is<Wanted>()`. */
export declare function typeOf<A> (value: A): { is<B> (...different: Equal<A, B> extends true ? [] : [never]): void }
