/**
 * The fields that objects have of their own, later objects first. The result has no prototype: what a polluted Object.prototype holds is no
 * field of it, whoever reads it.
 */
export function ownFields<T extends object> (...objects: T[]): T {
  return Object.assign(Object.create(null), ...objects)
}
