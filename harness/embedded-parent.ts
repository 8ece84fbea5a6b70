// A program that starts a server and says where it is. How it ends is for the test that runs it: it waits for the
// end of its input, or dies.
import { spawn } from 'node:child_process'
import { startPostgres } from '../lib/embedded/index.ts'

const postgres = await startPostgres()
// A longer-lived child must not keep the server: it does not inherit the pipe that the server's end hangs on.
const child = spawn('sleep', ['30'], { detached: true, stdio: ['ignore', 'ignore', 'ignore'] })
child.unref()
console.log(JSON.stringify({ pid: postgres.pid, dataFolder: postgres.dataFolder, child: child.pid }))
if (process.argv[2] === 'wait') setInterval(() => {}, 1000)
