import { isPortList } from './option-rules.ts'

/** A URL whose list of hosts was taken out. */
export interface SplitUrl {
  /** The same URL with one host in place of the list. */
  readonly url: string
  /** That host. */
  readonly placeholder: string
  /** The hosts, as a list with commas. */
  readonly host: string
  /** The ports, as such a list; undefined if there is none. */
  readonly port: string | undefined
}

/** User and password end at the last @, as in every URL. */
const authority = /^(postgres(?:ql)?:\/\/(?:[^/?#]*@)?)([^/?#@]*,[^/?#@]*)((?:[/?#].*)?)$/is

/** A name, an address or an encoded folder; an IPv6 address stands in brackets. */
const element = /^(?:\[([0-9a-f:.%]+)\]|([^:[\]]*))(?::(\d*))?$/i

const placeholder = 'several-hosts'

/**
 * Takes the list of hosts out of a URL such as postgres://user@one:5432,two:5433/shop: URLs of other kinds have no
 * lists (https://www.postgresql.org/docs/current/libpq-connect.html#LIBPQ-CONNSTRING-URIS).
 *
 * @returns null if there is no list
 */
export function splitHosts (url: string): SplitUrl | null | 'malformed' {
  const [, start, list, end] = authority.exec(url) ?? []
  if (list === undefined) return null
  const elements = list.split(',').map((each) => element.exec(each))
  if (elements.includes(null)) return 'malformed'
  try {
    const host = elements.map((each) => decodeURIComponent(each![1] ?? each![2]!)).join(',')
    const port = elements.map((each) => each![3] ?? '').join(',')
    const hasPorts = /\d/.test(port)
    if (hasPorts && !isPortList(port)) return 'malformed'
    return { url: `${start}${placeholder}${end}`, placeholder, host, port: hasPorts ? port : undefined }
  } catch { // a bad percent-encoding
    return 'malformed'
  }
}
