const units: [unit: string, milliseconds: number][] = [['h', 3600000], ['min', 60000], ['s', 1000]]

/** A duration for a reader: `10 s`, `30 min`, `1.5 s`, `250 ms`. */
export function inWords (milliseconds: number): string {
  const [unit, size] = units.find(([, size]) => milliseconds >= size && milliseconds % size === 0) ??
    (milliseconds >= 1000 ? ['s', 1000] as const : ['ms', 1] as const)
  return `${Number((milliseconds / size).toFixed(1))} ${unit}`
}
