import { cStrings } from './framer.ts'

export interface Seen {
  text: string
  how: 'parsed' | 'bound' | 'executed' | 'queried'
}

/** Which text stands behind the names of one connection's prepared statements and portals. */
export class Statements {
  readonly #texts = new Map<string, string>()
  readonly #portals = new Map<string, string>()
  readonly #unbound = new Set<string>()

  /** What a client's message says about a statement. A Bind says something only when it is not the first
   * after its Parse. */
  see (type: string, body: Buffer): Seen | undefined {
    switch (type) {
      case 'Q': return { text: cStrings(body, 1)[0] ?? '', how: 'queried' }
      case 'P': return this.#parse(body)
      case 'B': return this.#bind(body)
      case 'E': return { text: this.#portals.get(cStrings(body, 1)[0] ?? '') ?? '', how: 'executed' }
    }
  }

  #parse (body: Buffer): Seen {
    const [name = '', text = ''] = cStrings(body, 2)
    this.#texts.set(name, text)
    this.#unbound.add(name)
    return { text, how: 'parsed' }
  }

  #bind (body: Buffer): Seen | undefined {
    const [portal = '', name = ''] = cStrings(body, 2)
    const text = this.#texts.get(name)
    this.#portals.set(portal, text ?? '')
    const again = !this.#unbound.delete(name)
    if (text !== undefined && again) return { text, how: 'bound' }
  }
}
