import { breaches, type Finding, longestWait, statuses } from '../../harness/reliability/finding.ts'

const columns = ['event', 'setup', 'requests', 'what clients saw', 'longest wait', 'first success', 'full strength', 'lost', 'unknown', 'the rule']

/** One line for each event and setup. */
export function table (findings: readonly Finding[]): string {
  return [columns, columns.map(() => '---'), ...findings.map(cells)].map((line) => `| ${line.join(' | ')} |`).join('\n')
}

function cells (finding: Finding, index: number, all: readonly Finding[]): string[] {
  const { event, setup, answers, books, firstSuccess, strength } = finding
  const wrong = breaches(finding)
  return [
    all[index - 1]?.event === event ? '' : `**${event.name}**${event.cost === 'no request' ? '<br>none may fail' : ''}`,
    setup,
    String(answers.length),
    statuses(finding),
    time(longestWait(finding)),
    time(firstSuccess),
    time(strength),
    String(books.lost),
    books.unknown === 0 ? '0' : `${books.unknown}, ${books.unknownSaved} of them saved`,
    wrong.length === 0 ? 'kept' : `**broken**: ${wrong.join('; ')}`
  ]
}

function time (milliseconds: number | null): string {
  return milliseconds === null ? 'never' : `${milliseconds} ms`
}
