import { readFile, stat } from 'node:fs/promises'

/** The user that PostgreSQL's programs run as. */
export interface Account {
  name: string
  uid: number
  gid: number
}

/**
 * PostgreSQL refuses to run as root, so root hands its programs to another user: the owner of the data, if there is
 * one, else `postgres`, else `nobody`.
 *
 * @param dataFolder the folder that was named, if one was
 * @returns undefined if this process is not root: the programs then run as its own user
 */
export async function chooseAccount (dataFolder: string | undefined): Promise<Account | undefined> {
  if (process.getuid?.() !== 0) return undefined
  if (dataFolder !== undefined) {
    const owner = await stat(dataFolder).catch(() => undefined)
    if (owner !== undefined && owner.uid !== 0) return { name: `uid ${owner.uid}`, uid: owner.uid, gid: owner.gid }
  }
  const users = await readFile('/etc/passwd', 'utf8').catch(() => '')
  return findUser(users, 'postgres') ?? findUser(users, 'nobody') ?? { name: 'nobody', uid: 65534, gid: 65534 }
}

function findUser (passwd: string, name: string): Account | undefined {
  const fields = passwd.split('\n').map(line => line.split(':')).find(fields => fields[0] === name)
  const [uid, gid] = [Number(fields?.[2]), Number(fields?.[3])]
  // On macOS, nobody is -2: not a number that spawn() takes.
  return Number.isInteger(uid) && Number.isInteger(gid) && uid > 0 && gid >= 0 ? { name, uid, gid } : undefined
}
