/**
 * Merges the own fields of objects; later objects take precedence. The result has no prototype, so a polluted
 * Object.prototype adds no fields to it.
 */
export function ownFields<T extends object> (...objects: T[]): T {
  return Object.assign(Object.create(null), ...objects)
}
