import { parametersOf } from '../exchange/parameters.ts'

/** The arguments of a query() that has to wait, with the values as they are now. */
export function captured (text: unknown, values: unknown): [text: unknown, values: unknown] {
  if (typeof text === 'object' && text !== null && 'values' in text) {
    return [{ ...text, values: capturedValues(text.values) }, values]
  }
  return [text, capturedValues(values)]
}

/** Values that are not valid are left to the checks of query(). */
export function capturedValues (values: unknown): any {
  if (!Array.isArray(values)) return values
  try {
    return parametersOf(values)
  } catch {
    return values
  }
}
