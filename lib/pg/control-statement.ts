// What a library sends to begin and end transactions, which a session does by calls.
import type { TransactionModes } from '../library-source.ts'
import { splitStatements, statementsOf } from '../postgres/statement-words.ts'

/** One step of a text: a command about transactions, or statements to send as they are. */
export type Step =
  | { readonly kind: 'begin', readonly modes: TransactionModes, readonly text: string }
  | { readonly kind: 'set', readonly command: 'SET' | 'BEGIN', readonly modes: TransactionModes, readonly text: string }
  | { readonly kind: 'commit' | 'rollback', readonly chain: boolean }
  | { readonly kind: 'savepoint' | 'release' | 'rollbackTo', readonly name: string }
  | { readonly kind: 'plain', readonly text: string }

const commands = String.raw`(?:begin|start|commit|end|rollback|abort|savepoint|release|set\s+transaction)\b`
const first = new RegExp(String.raw`^(?:\s|--[^\n]*(?:\n|$)|\/\*(?:[^*]|\*(?!\/))*\*\/)*${commands}`, 'i')
const later = new RegExp(String.raw`\b${commands}`, 'i')

/** The steps of a text, or null if none of them is about transactions. */
export function stepsOf (text: string): Step[] | null {
  if (!first.test(text)) {
    const semicolon = text.indexOf(';')
    if (semicolon === -1 || !later.test(text.slice(semicolon))) return null
  }
  const steps: Step[] = []
  for (const part of splitStatements(text)) {
    const step = stepOf(part)
    const last = steps.at(-1)
    // Statements in a row travel as one text.
    if (step.kind === 'plain' && last?.kind === 'plain') {
      steps[steps.length - 1] = { kind: 'plain', text: `${last.text};${step.text}` }
    } else steps.push(step)
  }
  return steps.every(({ kind }) => kind === 'plain') ? null : steps
}

/**
 * A step of a text that is sent outside of transactions. PostgreSQL makes statements without BEGIN a transaction with
 * what follows them in their text: BEGIN makes it one that stays open, COMMIT, ROLLBACK and a failure end it
 * (https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-MULTI-STATEMENT).
 */
export interface PlacedStep {
  readonly step: Step
  /**
   * It begins such a transaction, or belongs to it: a failure of the step ends the transaction. 'ends': a COMMIT that
   * the text does not have.
   */
  readonly implicit: 'begins' | 'belongs' | 'ends' | null
  /** The step needs BEGIN, which was not sent. */
  readonly isRefused: boolean
}

/**
 * The steps up to the first one that is refused.
 *
 * @param isOpen BEGIN was sent in front of the text
 * @param needsBegin SAVEPOINT alone begins no transaction
 */
export function placeSteps (steps: readonly Step[], isOpen: boolean, needsBegin: boolean): PlacedStep[] {
  const placed: PlacedStep[] = []
  let around: 'BEGIN' | 'statements' | null = isOpen ? 'BEGIN' : null
  /** SAVEPOINT has begun the transaction, without BEGIN. */
  let savepoint: string | null = null
  const place = (step: Step, implicit: PlacedStep['implicit'], isRefused = false): void => {
    placed.push({ step, implicit, isRefused })
  }
  for (const [index, step] of steps.entries()) {
    const belongs = around === 'statements' ? 'belongs' : null
    if (step.kind === 'plain' || step.kind === 'set') {
      const rest = steps.slice(index + 1)
      const isTogether = rest.some(({ kind }) => kind !== 'plain') || (step.kind === 'set' && rest.length > 0)
      const begins = around === null && isTogether
      if (begins) around = 'statements'
      place(step, begins ? 'begins' : belongs)
    } else if (step.kind === 'begin' && around === 'statements') {
      // The transaction has begun: BEGIN keeps it open, and sets its modes.
      around = 'BEGIN'
      place({ ...step, kind: 'set', command: 'BEGIN' }, belongs)
    } else if (step.kind === 'begin' || (step.kind === 'savepoint' && around === null && !needsBegin)) {
      around = 'BEGIN'
      if (step.kind === 'savepoint') savepoint = step.name
      place(step, null)
    } else if (step.kind === 'release' && step.name === savepoint) {
      around = savepoint = null
      place(step, null)
    } else if ((step.kind === 'commit' || step.kind === 'rollback') && !step.chain) {
      around = null
      place(step, null)
    } else if (around === 'BEGIN') place(step, null)
    else {
      place(step, belongs, true)
      return placed
    }
  }
  if (around === 'statements') place({ kind: 'commit', chain: false }, 'ends')
  return placed
}

/** Whether a text that is sent outside of transactions leaves one open. */
export function leavesOpen (steps: readonly Step[]): boolean {
  let isOpen = false
  /** SAVEPOINT has begun it, without BEGIN. */
  let savepoint: string | null = null
  for (const step of steps) {
    if (step.kind === 'begin') isOpen = true
    else if (step.kind === 'commit' || step.kind === 'rollback') isOpen &&= step.chain
    else if (step.kind === 'savepoint' && !isOpen) {
      isOpen = true
      savepoint = step.name
    } else if (step.kind === 'release' && step.name === savepoint) isOpen = false
  }
  return isOpen
}

function stepOf (text: string): Step {
  const words = statementsOf(text)[0]!.trimEnd()
  if (/^(?:begin|start transaction)\b/i.test(words)) return { kind: 'begin', modes: modesOf(words), text }
  if (/^set transaction (?:isolation|read|not|deferrable)\b/i.test(words)) {
    return { kind: 'set', command: 'SET', modes: modesOf(words), text }
  }
  const end = /^(?:(commit|end)|rollback|abort)(?: (?:work|transaction))?(?: and (no )?chain)?$/i.exec(words)
  if (end !== null) {
    const chain = /chain$/i.test(words) && end[2] === undefined
    return { kind: end[1] === undefined ? 'rollback' : 'commit', chain }
  }
  if (/^savepoint /i.test(words)) return { kind: 'savepoint', name: nameIn(text) }
  if (/^release /i.test(words)) return { kind: 'release', name: nameIn(text) }
  if (/^rollback (?:(?:work|transaction) )?to /i.test(words)) return { kind: 'rollbackTo', name: nameIn(text) }
  return { kind: 'plain', text }
}

function modesOf (words: string): TransactionModes {
  const isolation = /isolation level (serializable|repeatable read|read (?:un)?committed)/i.exec(words)?.[1]
  const access = /\bread (only|write)\b/i.exec(words)?.[1]
  const deferrable = /(not )?\bdeferrable\b/i.exec(words)
  return {
    isolation: isolation?.toLowerCase() as TransactionModes['isolation'],
    readOnly: access === undefined ? undefined : access.toLowerCase() === 'only',
    deferrable: deferrable === null ? undefined : deferrable[1] === undefined
  }
}

/** The name at the end of a text, as PostgreSQL reads it: a name without quotes is lower case. */
function nameIn (text: string): string {
  const found = /(?:"((?:[^"]|"")+)"|([\w$\x80-\uffff]+))(?:\s|--[^\n]*(?:\n|$)|\/\*[^]*?\*\/)*$/.exec(text)
  if (found === null) return ''
  return found[1]?.replaceAll('""', '"') ?? found[2]!.toLowerCase()
}
