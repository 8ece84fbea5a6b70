/** Pieces of text and what takes their place. */
type Edits = [piece: string, replacement: string][]

/** Files of examples/starter of which an option changes a few lines. */
export const edits: Record<string, Record<string, Edits>> = {
  prisma: {
    '.dockerignore': [['node_modules\n', 'node_modules\nsrc/generated\n']],
    '.gitignore': [['node_modules/\n', 'node_modules/\nsrc/generated/\n']],
    'README.md': [
      ['src/\n', 'prisma/          what Prisma knows of the tables\nsrc/\n'],
      ['connection and schema; errors', 'connection and schema; prisma: its client; errors'],
      ['all or nothing. Never change a file that has run somewhere: the\napp would not start there', [
        'all or nothing. Make the same change in',
        '`prisma/schema.prisma`, and write the client in `src/generated` again with `npm run generate`, as `npm install` does.',
        'Never change a file that has run somewhere: the app would not start there'
      ].join('\n')]
    ],
    'src/app.ts': [
      ['import silentSockets', "import prisma from './plugins/prisma.ts'\nimport silentSockets"],
      ['app.register(database)\n', 'app.register(database)\n  app.register(prisma)\n']
    ],
    'src/plugins/errors.ts': [
      ['or the one of a query builder that wraps it', 'or the one of Prisma that wraps it'],
      ['  cause?: { constraint?: string }\n', '  meta?: { driverAdapterError?: { cause?: { constraint?: string } } }\n'],
      ['error.cause?.constraint', 'error.meta?.driverAdapterError?.cause?.constraint']
    ]
  }
}

/** @throws when a piece is not in the text just once */
export function edit (text: string, pieces: Edits): string {
  return pieces.reduce((result, [piece, replacement]) => {
    const parts = result.split(piece)
    if (parts.length !== 2) throw new Error(`${JSON.stringify(piece)} is in the text ${parts.length - 1} times`)
    return parts.join(replacement)
  }, text)
}
