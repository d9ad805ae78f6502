/* Runs code-server once while its image is built, as its user, so that Node keeps the compiled code: see start.cjs.
 *
 *   node warm.mjs <folder of start.cjs>
 */
import assert from "node:assert";
import { spawn } from "node:child_process";
import { once } from "node:events";
import fs from "node:fs";
import http from "node:http";
import path from "node:path";
import { setTimeout } from "node:timers/promises";

const USER = 1000; // Node's cache is one user's: the image's
const folder = path.resolve(process.argv[2]);
const compiled = path.join(folder, "compiled");
const home = fs.mkdtempSync("/tmp/home-");
const socket = path.join(home, "socket");
fs.mkdirSync(compiled);
for (const each of [compiled, home]) fs.chownSync(each, USER, USER);

const options = ["--auth", "none", "--socket", socket, "--config", `${home}/config.yaml`];
const argv = [path.join(folder, "start.cjs"), ...options, home];
const server = spawn(process.execPath, argv, {
  uid: USER,
  gid: USER,
  env: { PATH: process.env.PATH, HOME: home },
  stdio: "inherit",
});
const ended = once(server, "exit");
await Promise.race([answers(), ended, setTimeout(120_000)]);
await setTimeout(2000); // the editor's server is loaded after the first answer
server.kill("SIGTERM");
await ended;
const kept = fs.readdirSync(compiled, { recursive: true, withFileTypes: true });
assert(kept.filter((entry) => entry.isFile()).length > 100, `Node kept only ${kept.length} files of compiled code`);
for (const entry of kept) {
  const each = path.join(entry.parentPath, entry.name);
  fs.chownSync(each, 0, 0);
  fs.chmodSync(each, entry.isDirectory() ? 0o755 : 0o644);
}
fs.chownSync(compiled, 0, 0);
fs.rmSync(home, { recursive: true });
process.exit(0);

async function answers() {
  while (!(await status("/?folder=/tmp").catch(() => undefined))) await setTimeout(50);
}

function status(path) {
  return new Promise((resolve, reject) => {
    const request = http.get({ socketPath: socket, path }, (response) => resolve(response.resume().statusCode === 200));
    request.on("error", reject);
  });
}
