import ts from 'typescript'

/** A part of the text that has no place in JavaScript. */
type Span = readonly [start: number, end: number]

/**
 * The JavaScript that someone would have written instead: types are cut out, and everything else stays as it is, with
 * its comments and blank lines. It is for TypeScript whose types can be erased, as the template's can.
 */
export function stripTypes (text: string): string {
  const source = ts.createSourceFile('template.ts', text, ts.ScriptTarget.Latest, true)
  const spans: Span[] = []
  const visit = (node: ts.Node): void => {
    const whole = wholeSpan(node, text)
    if (whole !== null) {
      spans.push(whole)
      return
    }
    spans.push(...partsOf(node, text))
    ts.forEachChild(node, visit)
  }
  visit(source)
  return remove(text, spans).trimStart().replaceAll(/(from '\.[^']*|import\('\.[^']*)\.ts'/g, "$1.js'")
}

/** A node of which nothing is left. */
function wholeSpan (node: ts.Node, text: string): Span | null {
  const isType = ts.isInterfaceDeclaration(node) || ts.isTypeAliasDeclaration(node) || ts.isModuleDeclaration(node)
  if (isType || (ts.isImportDeclaration(node) && importsTypesOnly(node))) return lineSpan(node, text)
  return ts.isTypeNode(node) ? [node.pos, node.end] : null
}

function importsTypesOnly ({ importClause }: ts.ImportDeclaration): boolean {
  if (importClause === undefined) return false
  if (importClause.phaseModifier === ts.SyntaxKind.TypeKeyword) return true
  const { name, namedBindings } = importClause
  return name === undefined && namedBindings !== undefined && ts.isNamedImports(namedBindings) &&
    namedBindings.elements.every(({ isTypeOnly }) => isTypeOnly)
}

/** With the comment in front; a declaration also takes the blank line behind it along. */
function lineSpan (node: ts.Node, text: string): Span {
  const start = ts.getLeadingCommentRanges(text, node.pos)?.[0]?.pos ?? node.getStart()
  const rest = text.slice(node.end)
  const lines = ts.isImportDeclaration(node) ? /^\n/ : /^\n\n?/
  return [start, node.end + (lines.exec(rest)?.[0].length ?? 0)]
}

/** What goes of a node that stays. */
function * partsOf (node: ts.Node, text: string): Generator<Span> {
  const { type, typeParameters, typeArguments, questionToken } = node as Partial<Record<string, any>>
  if (questionToken !== undefined && !ts.isConditionalExpression(node)) yield [questionToken.pos, questionToken.end]
  if (ts.isAsExpression(node) || ts.isSatisfiesExpression(node) || ts.isNonNullExpression(node)) {
    yield [node.expression.end, node.end]
  } else if (type !== undefined && ts.isTypeNode(type)) {
    yield [type.pos - 1, type.end]
  }
  for (const list of [typeParameters, typeArguments]) {
    if (list !== undefined) yield [list.pos - 1, text.indexOf('>', list.end) + 1]
  }
  if (ts.isParenthesizedExpression(node) && ts.isAsExpression(node.expression)) {
    yield [node.getStart(), node.expression.getStart()]
    yield [node.end - 1, node.end]
  }
  if (ts.isNamedImports(node)) {
    const values = node.elements.filter(({ isTypeOnly }) => !isTypeOnly)
    if (values.length === 0) yield [node.parent.name!.end, node.end]
    for (const element of node.elements) {
      if (!element.isTypeOnly) continue
      const next = node.elements[node.elements.indexOf(element) + 1]
      // The comma goes too: the one behind it, or the one in front of the last.
      if (next !== undefined) yield [element.getStart(), next.getStart()]
      else yield [values.at(-1)?.end ?? element.getStart(), element.end]
    }
  }
  // It changes types alone.
  const called = ts.isCallExpression(node) && ts.isPropertyAccessExpression(node.expression) ? node.expression : null
  if (called?.name.text === 'withTypeProvider') yield [called.expression.end, node.end]
}

function remove (text: string, spans: Span[]): string {
  let result = ''
  let position = 0
  for (const [start, end] of spans.sort(([a], [b]) => a - b)) {
    if (start > position) result += text.slice(position, start)
    position = Math.max(position, end)
  }
  return result + text.slice(position)
}
