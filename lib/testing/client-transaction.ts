import { errorMessage } from './frames.ts'
import type { OuterTransaction } from './outer-transaction.ts'
import { type Control, dropsTables } from './transaction-control.ts'

/**
 * The transaction that a client of the sandbox believes to have: begun by BEGIN, or implicit, for one batch. It is a
 * stretch of the outer transaction. Its methods require that the server is idle.
 */
export class ClientTransaction {
  /** The client is inside of BEGIN … COMMIT. */
  isBegun = false
  readonly #outer: OuterTransaction
  /** Statements were sent outside of BEGIN … COMMIT, and are not committed yet. */
  #isImplicit = false
  /** It has temporary tables that its COMMIT drops. */
  #dropsTables = false

  constructor (outer: OuterTransaction) {
    this.#outer = outer
  }

  /** As the client sees it: I, T or E. */
  get status (): string {
    return this.isBegun ? this.#outer.server.status : 'I'
  }

  get #isAborted (): boolean {
    return this.#outer.server.status === 'E'
  }

  /** A statement is sent that is not a Control. */
  sent (): void {
    if (!this.isBegun) this.#isImplicit = true
  }

  /** @param text of a statement that will be sent */
  read (text: string): void {
    this.#dropsTables ||= dropsTables(text)
  }

  /** Does what the statement asks for. @returns the tag of its answer, or the ErrorResponse */
  async control (control: Control): Promise<string | Buffer> {
    switch (control.kind) {
      case 'commit': return await this.#commit(control.chain)
      case 'rollback':
        if (this.isBegun || this.#isImplicit) await this.#outer.rollback()
        this.#ended(control.chain)
        return 'ROLLBACK'
      case 'begin': return this.#isAborted ? await this.#refused() : await this.#begin(control)
      case 'prepare':
        await this.#refused()
        return errorMessage('0A000', 'a sandbox cannot prepare a transaction: it never commits')
      case 'discard':
        // In a transaction the server refuses it.
        if (this.isBegun) return await this.#refused('DISCARD ALL')
        await this.#outer.discard()
        return 'DISCARD ALL'
      case 'modes':
        if (this.#isAborted) return await this.#refused()
        return control.rest === null ? 'SET' : (await this.#outer.server.query(control.rest)).error ?? 'SET'
    }
  }

  async #begin ({ tag, readOnly }: Control & { kind: 'begin' }): Promise<string | Buffer> {
    if (this.isBegun) return tag
    this.isBegun = true
    this.#isImplicit = false
    if (!(readOnly ?? this.#outer.readOnlyByDefault)) return tag
    return (await this.#outer.server.query('SET TRANSACTION READ ONLY')).error ?? tag
  }

  async #commit (chain: boolean): Promise<string | Buffer> {
    if (this.#isAborted) {
      await this.#outer.rollback()
      this.#ended(chain)
      return 'ROLLBACK'
    }
    const error = this.isBegun || this.#isImplicit ? await this.#outer.commit(this.#dropsTables) : null
    this.#ended(chain && error === null)
    return error ?? 'COMMIT'
  }

  /** Fails the transaction as the server would. @param text a statement that the server refuses */
  async #refused (text = 'SELECT 1/0'): Promise<Buffer> {
    return (await this.#outer.server.query(text)).error!
  }

  /**
   * A batch has ended, and with it an implicit transaction.
   *
   * @returns the error of its commit, or null
   */
  async endOfBatch (hasFailed: boolean): Promise<Buffer | null> {
    if (!this.#isImplicit) return null
    let error: Buffer | null = null
    if (hasFailed || this.#isAborted) await this.#outer.rollback()
    else error = await this.#outer.commit(this.#dropsTables)
    this.#ended(false)
    return error
  }

  #ended (chain: boolean): void {
    this.isBegun &&= chain
    this.#isImplicit = this.#dropsTables = false
  }

  /** The client has gone: undoes its open transaction, and what it has left on the connection. */
  async leave (): Promise<void> {
    await this.#outer.rollback()
    await this.#outer.discard()
  }
}
