// What the arguments of `npm run test:variants` choose.

/** A combination of the environment variables of harness/variant.ts. */
export interface Variant {
  /** As in '1.18/null'. */
  readonly name: string
  /** 'direct', 'newest', the beginning of PgBouncer's version, or the name of another pooler. */
  readonly through: string
  readonly strategy: 'queue' | 'null'
}

export interface Choice {
  readonly variants: readonly Variant[]
  /** Test files, and folders of them. */
  readonly paths: readonly string[]
  /** Each file in one of the variants, in turns, and not in all of them. */
  readonly spread: boolean
}

/** The queue on direct connections is what `npm test` runs. */
const allVariants = ['1.18/queue', '1.18/null', 'newest/queue', 'newest/null', 'direct/null']

/** What a request, its session and its connection are. The soak mixes all of it. */
const foundation = [...['session', 'request-outcome', 'connection-loss', 'pool', 'engine', 'startup', 'exactly-once'].map((name) => `test/integration/${name}`), 'test/integration/soak.test.ts']

/** What is run behind other poolers, if no paths are given: `npm run test:variants -- odyssey/queue pgpool/queue`. */
const behindOthers = [
  'test/integration/request-outcome/commit.test.ts',
  'test/integration/request-outcome/concurrent-requests.test.ts',
  'test/integration/session/row-stream.test.ts'
]

/** Poolers other than PgBouncer. */
const isOther = ({ through }: Variant): boolean => through === 'odyssey' || through === 'pgpool'

const names = /^(?:direct|newest|odyssey|pgpool|\d+(?:\.\d+)*)(?:\/(?:queue|null))?$/

/** @throws Error for an option that it does not know */
export function choose (args: readonly string[]): Choice {
  const unknown = args.find((arg) => arg.startsWith('-') && arg !== '--spread')
  if (unknown !== undefined) throw new Error(`${unknown}: expected --spread, variants such as 1.18/null or newest, and test files or folders`)
  const variants = args.filter((arg) => names.test(arg))
  const paths = args.filter((arg) => !arg.startsWith('-') && !names.test(arg))
  const chosen = (variants.length > 0 ? variants : allVariants).flatMap(variantsOf)
  return {
    variants: chosen,
    paths: paths.length > 0 ? paths : chosen.every(isOther) ? behindOthers : foundation,
    spread: args.includes('--spread')
  }
}

function variantsOf (name: string): Variant[] {
  const [through, strategy] = name.split('/') as [string, Variant['strategy']?]
  return (strategy === undefined ? ['queue', 'null'] as const : [strategy]).map((strategy) => ({ name: `${through}/${strategy}`, through, strategy }))
}

/** The share of the variant with this index in the files that are spread over `count` of them. */
export function shareOf (files: readonly string[], index: number, count: number): string[] {
  return files.filter((_, position) => position % count === index)
}
