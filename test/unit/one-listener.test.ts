import { EventEmitter, getEventListeners } from 'node:events'
import type { Socket } from 'node:net'
import t from 'tap'
import { whenOver } from '../../lib/one-listener.ts'

t.test('however many wait, the target has one listener, and each is called once', async t => {
  const controller = new AbortController()
  const socket = new EventEmitter() as Socket
  const called: string[] = []
  for (const [name, target] of [['signal', controller.signal], ['socket', socket]] as const) {
    for (let i = 0; i < 20; i++) whenOver(target, () => called.push(name))
    whenOver(target, () => t.fail('it does not wait any more'))()
  }
  t.equal(getEventListeners(controller.signal, 'abort').length, 1)
  t.equal(socket.listenerCount('close'), 1)
  controller.abort()
  socket.emit('close')
  socket.emit('close')
  t.same(called, [...new Array(20).fill('signal'), ...new Array(20).fill('socket')])
})
