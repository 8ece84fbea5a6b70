import type { PgBouncerFacts, TlsFacts } from '../facts.ts'
import { type Check, type Finding, inPgBouncer, inUrl, onHost } from '../finding.ts'
import { isLocalHost } from '../network.ts'

const day = 86400000

/** Encryption on both legs, certificates, and how clients prove who they are. */
export const checkSecurity: Check = ({ now, tls, server, pgbouncer, pooler, connection }) => {
  if (connection.failure !== null) return []
  return [
    ...(tls.protocol === null ? checkPlain(tls) : checkTls(tls, now)),
    ...(pgbouncer === null ? [] : checkPgBouncer(pgbouncer, pooler.kind !== 'none' && server?.encrypted === false))
  ]
}

function checkPlain ({ network }: TlsFacts): Finding[] {
  if (network === 'local' || network === null) return []
  return [{
    id: 'tls',
    severity: network === 'public' ? 'error' : 'note',
    found: `the connection is not encrypted, and leads to a ${network} address`,
    why: 'Statements and rows can be read and changed on the way',
    change: inUrl('sslmode=verify-full, with sslrootcert=… for an authority of your own')
  }]
}

function checkTls ({ protocol, verified, nameChecked, channelBinding, expires }: TlsFacts, now: number): Finding[] {
  const findings: Finding[] = []
  if (!verified) {
    findings.push({
      id: 'tls-unverified',
      severity: 'warning',
      found: 'the certificate of the server is not verified (sslmode=no-verify or rejectUnauthorized: false), ' +
        `channel binding is ${channelBinding ? 'on, where the server offers it' : 'off'}`,
      why: 'The connection is encrypted, but anyone in between can take the place of the server',
      change: inUrl('sslmode=verify-full, with sslrootcert=… for an authority of your own')
    })
  } else if (!nameChecked) {
    findings.push({
      id: 'tls-name',
      severity: 'note',
      found: 'the certificate is verified, and the name in it is not (verify-ca, or an own checkServerIdentity)',
      why: 'Any server with a certificate of the same authority can take the place of this one',
      change: inUrl('sslmode=verify-full')
    })
  }
  if (expires !== null && expires - now < 30 * day) {
    const days = Math.floor((expires - now) / day)
    findings.push({
      id: 'tls-certificate',
      severity: days < 0 ? 'error' : 'warning',
      found: `the certificate of the server ${days < 0 ? 'expired' : 'expires'} on ${dateOf(expires)}`,
      why: days < 0
        ? 'A client that verifies it cannot connect'
        : `In ${days} ${days === 1 ? 'day' : 'days'} no client that verifies it can connect`,
      change: onHost('renew the certificate, then reload the server (SELECT pg_reload_conf()) or PgBouncer (RELOAD)')
    })
  }
  if (protocol === 'TLSv1' || protocol === 'TLSv1.1') {
    findings.push({
      id: 'tls-version',
      severity: 'warning',
      found: `the connection uses ${protocol}`,
      why: 'The protocol is broken and withdrawn (RFC 8996)',
      change: onHost('ssl_min_protocol_version = \'TLSv1.2\' in postgresql.conf, or client_tls_protocols = secure in ' +
        'pgbouncer.ini')
    })
  }
  return findings
}

function checkPgBouncer ({ config, serverHost }: PgBouncerFacts, plain: boolean): Finding[] {
  const findings: Finding[] = []
  const remote = serverHost !== null && !isLocalHost(serverHost)
  const mode = config.server_tls_sslmode ?? 'prefer'
  if (remote && (plain || !mode.startsWith('verify'))) {
    findings.push({
      id: 'server-tls',
      severity: plain ? 'warning' : 'note',
      found: `PgBouncer connects to ${serverHost} ${plain ? 'without TLS' : 'without verifying its certificate'} ` +
        `(server_tls_sslmode = ${mode})`,
      why: 'Statements and rows can be read or changed between PgBouncer and PostgreSQL',
      change: inPgBouncer('server_tls_sslmode = verify-full, with server_tls_ca_file')
    })
  }
  const weak: Record<string, [Finding['severity'], string]> = {
    any: ['error', 'Every client is let in as whoever it says it is'],
    trust: ['error', 'Every client is let in without a password'],
    plain: ['warning', 'Passwords travel as they are'],
    md5: ['note', 'PostgreSQL 18 warns of md5 and will drop it; a copied hash is as good as the password']
  }
  const found = weak[config.auth_type ?? '']
  if (found !== undefined) {
    findings.push({
      id: 'auth-type',
      severity: found[0],
      found: `auth_type is ${config.auth_type}`,
      why: found[1],
      change: inPgBouncer('auth_type = scram-sha-256')
    })
  }
  return findings
}

function dateOf (time: number): string {
  return new Date(time).toISOString().slice(0, 10)
}
