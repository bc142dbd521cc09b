// Servers of a test file's own: each on a free port, all stopped by their process ids when the file's process ends.
import { spawn } from 'node:child_process';

const STARTUP_MS = 120_000; // only a broken server takes this long

/** A model may still be loading; the server then says 503. */
async function ready(url) {
  while ((await fetch(`${url}/health`)).status === 503) await new Promise((again) => setTimeout(again, 50));
}

/** Starts a server and gives its address. */
export function startServer(...args) {
  const child = spawn(process.env.SERVER_UNDER_TEST, ['--listen', '127.0.0.1:0', ...args]);
  // Nothing can be awaited here, so the signal is the one that needs no patience.
  process.on('exit', () => child.kill('SIGKILL'));
  return new Promise((resolve, reject) => {
    let output = '';
    let log = '';
    const fail = (why) => reject(new Error(`the server did not start: ${why}\n${output}${log}`));
    const timer = setTimeout(() => fail('it never said where it listens'), STARTUP_MS);
    child.on('error', fail);
    child.on('exit', (code, signal) => fail(`it ended with ${code ?? signal}`));
    child.stderr.on('data', (data) => (log += data));
    child.stdout.on('data', (data) => {
      output += data;
      const found = /listening on (http:\/\/127\.0\.0\.1:\d+)\n/.exec(output);
      if (!found) return;
      clearTimeout(timer);
      ready(found[1]).then(() => resolve(found[1]), fail);
      // From here on a running server does not keep the file's process alive.
      for (const handle of [child, child.stdout, child.stderr]) handle.unref();
    });
  });
}
