// Counters and histograms that a register of prom-client shows. Its own build a text of all labels for each
// observation, several times per request; these find a series by the values of its labels.

interface Config {
  readonly name: string
  readonly help: string
  readonly labelNames: readonly string[]
}

interface Shown {
  readonly metricName: string
  readonly labels: Readonly<Record<string, string | number>>
  readonly value: number
}

/** A metric as prom-client's Registry.registerMetric() takes it. */
abstract class Observations<Series> {
  /** prom-client changes it for OpenMetrics. */
  name: string
  readonly help: string
  abstract readonly type: 'counter' | 'histogram'
  /** How values of several processes are added up. */
  readonly aggregator = 'sum'
  readonly #labelNames: readonly string[]
  /** By the values of the labels, one map for each label. */
  #byLabels = new Map<string, unknown>()
  #series: { readonly labels: Record<string, string>, readonly series: Series }[] = []

  constructor ({ name, help, labelNames }: Config) {
    this.name = name
    this.help = help
    this.#labelNames = labelNames
  }

  protected abstract create (): Series
  protected abstract show (series: Series, labels: Record<string, string>): Shown[]

  /** @param values in the order of the label names */
  protected find (values: readonly string[]): Series {
    const last = values.length - 1
    let level = this.#byLabels
    for (let i = 0; i < last; i++) {
      let next = level.get(values[i]!) as Map<string, unknown> | undefined
      if (next === undefined) level.set(values[i]!, next = new Map())
      level = next
    }
    const found = level.get(values[last]!) as Series | undefined
    if (found !== undefined) return found
    const series = this.create()
    level.set(values[last]!, series)
    this.#series.push({ labels: Object.fromEntries(this.#labelNames.map((name, i) => [name, values[i]!])), series })
    return series
  }

  async get (): Promise<object> {
    const { name, help, type, aggregator } = this
    const values = this.#series.flatMap(({ labels, series }) => this.show(series, labels))
    return { name, help, type, values, aggregator }
  }

  reset (): void {
    this.#byLabels = new Map()
    this.#series = []
  }
}

export class Count extends Observations<{ value: number }> {
  readonly type = 'counter'

  /** @param labels in the order of the label names */
  add (labels: readonly string[]): void {
    this.find(labels).value++
  }

  protected create (): { value: number } {
    return { value: 0 }
  }

  protected show ({ value }: { value: number }, labels: Record<string, string>): Shown[] {
    return [{ metricName: this.name, labels, value }]
  }
}

interface Distribution {
  /** Values up to each bound, those of the lower ones not included; the last is for those above all bounds. */
  readonly buckets: number[]
  sum: number
}

export class Durations extends Observations<Distribution> {
  readonly type = 'histogram'
  readonly #bounds: readonly number[]

  /** @param bounds the upper bounds of the buckets, in ascending order */
  constructor (config: Config, bounds: readonly number[]) {
    super(config)
    this.#bounds = bounds
  }

  /** @param labels in the order of the label names */
  observe (seconds: number, labels: readonly string[]): void {
    const distribution = this.find(labels)
    const bounds = this.#bounds
    let i = 0
    while (i < bounds.length && seconds > bounds[i]!) i++
    distribution.buckets[i]!++
    distribution.sum += seconds
  }

  protected create (): Distribution {
    return { buckets: [...this.#bounds, Infinity].map(() => 0), sum: 0 }
  }

  protected show ({ buckets, sum }: Distribution, labels: Record<string, string>): Shown[] {
    const { name } = this
    let count = 0
    return [
      ...buckets.map((own, i) => {
        count += own
        return { metricName: `${name}_bucket`, labels: { le: this.#bounds[i] ?? '+Inf', ...labels }, value: count }
      }),
      { metricName: `${name}_sum`, labels, value: sum },
      { metricName: `${name}_count`, labels, value: count }
    ]
  }
}
