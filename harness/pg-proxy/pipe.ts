import type { Socket } from 'node:net'

/** What all connections of one proxy share: the network between its clients and the server. */
export interface Network {
  /** Milliseconds, one way. */
  delay: number
  traffic: 'flowing' | 'held' | 'discarded'
}

interface Item {
  due: number
  bytes: number
  deliver: () => void
}

// As much as this may be under way before the sender is made to wait.
const window = 4 * 1024 * 1024

/** One direction of a connection. Whatever crosses it, closing included, arrives in order and after the delay. */
export class Pipe {
  readonly #network: Network
  readonly #source: Socket
  readonly #target: Socket
  readonly #onLoss: () => void
  #items: Item[] = []
  #bytes = 0
  #lastDue = 0
  #extraDelay = 0
  #state: 'open' | 'silent' = 'open'
  #cancelWake: (() => void) | null = null

  constructor (network: Network, source: Socket, target: Socket, onLoss: () => void) {
    this.#network = network
    this.#source = source
    this.#target = target
    this.#onLoss = onLoss
    target.on('drain', () => this.#regulate())
  }

  write (chunk: Buffer, onDelivery?: () => void): void {
    this.push(() => {
      onDelivery?.()
      if (this.#target.writable) this.#target.write(chunk)
    }, chunk.length)
  }

  push (deliver: () => void, bytes = 0): void {
    if (this.#state === 'silent') return
    this.#lastDue = Math.max(this.#lastDue, performance.now() + this.#network.delay + this.#extraDelay)
    this.#items.push({ due: this.#lastDue, bytes, deliver })
    this.#bytes += bytes
    this.drain()
  }

  /** What comes from now on takes longer than the network's delay. Milliseconds. */
  slow (extraDelay: number): void {
    this.#extraDelay = extraDelay
  }

  /** Delivers what is due, and comes back for the rest. */
  drain (): void {
    this.#cancelWake?.()
    this.#cancelWake = null
    while (this.#items.length > 0 && this.#network.traffic !== 'held') {
      if (this.#network.traffic === 'discarded') return this.#onLoss()
      const wait = this.#items[0]!.due - performance.now()
      if (wait > 0) {
        this.#wakeIn(wait)
        break
      }
      const item = this.#items.shift()!
      this.#bytes -= item.bytes
      item.deliver()
    }
    this.#regulate()
  }

  /** Forgets what is under way and whatever comes later. */
  silence (): void {
    this.#state = 'silent'
    this.#cancelWake?.()
    this.#cancelWake = null
    this.#items = []
    this.#bytes = 0
    this.#regulate()
  }

  // Node's timers are up to a millisecond late, as much as a short delay itself: the last of the wait is polled.
  #wakeIn (wait: number): void {
    if (wait > 1.5) {
      const timer = setTimeout(() => this.drain(), Math.floor(wait - 1))
      this.#cancelWake = () => clearTimeout(timer)
    } else {
      const immediate = setImmediate(() => this.drain())
      this.#cancelWake = () => clearImmediate(immediate)
    }
  }

  #regulate (): void {
    const full = this.#bytes + this.#target.writableLength > window
    if (full !== this.#source.isPaused()) full ? this.#source.pause() : this.#source.resume()
  }
}
