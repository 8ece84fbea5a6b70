// What a library sends to begin and end transactions, which a session does by calls.
import type { TransactionModes } from '../library-source.ts'
import { splitStatements, statementsOf } from '../postgres/statement-words.ts'

/** One step of a text: a command about transactions, or statements to send as they are. */
export type Step =
  | { readonly kind: 'begin' | 'set', readonly modes: TransactionModes, readonly text: string }
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
    return { kind: 'set', modes: modesOf(words), text }
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
