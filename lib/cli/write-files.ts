import { mkdir, readdir, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'

/** How many names a message shows. */
const shown = 10

/** @throws when the folder holds anything but a new Git repository, or is no folder */
export async function checkFolder (folder: string): Promise<void> {
  const names = await readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return []
    if (error.code === 'ENOTDIR') throw new Error(`${folder} is not a folder. Choose another name`)
    throw error
  })
  const found = names.filter((name) => name !== '.git').sort()
  if (found.length === 0) return
  const list = found.slice(0, shown).map((name) => `  ${name}\n`).join('')
  const more = found.length > shown ? `  and ${found.length - shown} more\n` : ''
  throw new Error(
    `${folder} is not empty. It has\n\n${list}${more}\nNothing was written. Choose a new folder, or an empty one`
  )
}

/** Writes new files only: one that has appeared meanwhile is an error, and stays as it is. */
export async function writeFiles (folder: string, files: Map<string, string>): Promise<void> {
  for (const [path, text] of files) {
    const target = join(folder, path)
    await mkdir(dirname(target), { recursive: true })
    await writeFile(target, text, { flag: 'wx' })
  }
}
