import type { Socket } from 'node:net'

/** Milliseconds that the other side has to answer a FIN. */
const patience = 1000

/**
 * Sends FIN, and reads on until the other side has closed as well. Closing at once would turn into RST whenever unread
 * bytes are there: the error would vary, and what the other side has not read yet would be lost to it.
 */
export function closeQuietly (socket: Socket): void {
  if (socket.pending) {
    socket.destroy()
    return
  }
  socket.end()
  socket.resume()
  setTimeout(() => socket.destroy(), patience).unref()
}

export function reset (socket: Socket): void {
  // A socket that never connected has nothing to reset, and would wait for its connection first.
  if (socket.pending) socket.destroy()
  else socket.resetAndDestroy()
}
