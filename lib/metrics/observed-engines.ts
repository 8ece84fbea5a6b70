import type { Engine, Stats } from '../../types/engine.ts'

/** The engines whose figures one register shows, by their decorators. */
export class ObservedEngines {
  readonly #engines = new Map<Engine, string>()

  add (db: Engine, decorator: string): void {
    this.#engines.set(db, decorator)
  }

  delete (db: Engine): void {
    this.#engines.delete(db)
  }

  has (db: Engine): boolean {
    return this.#engines.has(db)
  }

  get isEmpty (): boolean {
    return this.#engines.size === 0
  }

  forEach (fn: (stats: Stats, decorator: string) => void): void {
    for (const [db, decorator] of this.#engines) fn(db.stats(), decorator)
  }
}
