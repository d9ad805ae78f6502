#!/usr/bin/env node
"use strict";
/* Starts code-server in one process, from compiled code, with its big files compressed beforehand.
 *
 * It changes what code-server does at three places, and none of its files:
 * - `wrapper.start` forks a second Node that loads everything again. A pod needs no parent that relaunches the server:
 *   kubelet does.
 * - code-server compresses 25 MB of scripts anew for every browser. What `prepare.mjs` has compressed is sent as it is.
 * - It listens before it knows its routes, and answers 404 meanwhile. Requests wait for the routes instead.
 * All options and subcommands of `code-server` work, for this runs its own command line in the end. */
const fs = require("fs");
const http = require("http");
const { enableCompileCache, constants } = require("module");
const os = require("os");
const path = require("path");

const root = path.join(__dirname, "node_modules", "code-server");
// The cache in the image fits the processor and the user it was made by. Others keep one in their home folder.
for (const folder of [path.join(__dirname, "compiled"), path.join(os.homedir(), ".cache", "code-server", "compiled")]) {
  if (enableCompileCache(folder).status !== constants.compileCacheStatus.FAILED) break;
}

const { wrapper } = require(path.join(root, "out", "node", "wrapper.js"));
const { runCodeServer } = require(path.join(root, "out", "node", "main.js"));
const routes = require(path.join(root, "out", "node", "routes", "index.js"));

const { register } = routes;
let registered;
const ready = new Promise((resolve) => (registered = resolve));
routes.register = async (...given) => {
  const made = await register(...given);
  registered();
  return made;
};

const { createServer } = http;
http.createServer = (application) => {
  http.createServer = createServer; // the first one is code-server's; others are none of our business
  return createServer((request, response) => {
    if (!sendCompressed(request, response)) ready.then(() => application(request, response));
  });
};

wrapper.start = async (options) => {
  // Without it VS Code's server takes itself for the main program and listens on a port of its own.
  process.env.CODE_SERVER_PARENT_PID = String(process.pid);
  const server = await runCodeServer(options);
  wrapper.onDispose(() => server.dispose());
  // The first page needs it, and its browser is told only now that somebody listens.
  await import(path.join(root, "lib", "vscode", "out", "server-main.js"));
};

const compressed = JSON.parse(fs.readFileSync(path.join(__dirname, "compressed.json"), "utf8"));
const versioned = /^\/[a-z]+-[0-9a-f]{40}\/static\/([^?#]*)$/;

function sendCompressed(request, response) {
  const [, name] = (request.method === "GET" && versioned.exec(request.url)) || [];
  const file = name !== undefined && Object.hasOwn(compressed, name) ? compressed[name] : undefined;
  const accepted = String(request.headers["accept-encoding"] ?? "");
  const coding = file && ["br", "gzip"].find((coding) => new RegExp(`\\b${coding}\\b(?!\\s*;\\s*q=0)`).test(accepted));
  if (!coding) return false;
  const stream = fs.createReadStream(path.join(__dirname, "compressed", `${name}.${coding}`));
  stream.on("error", () => response.destroy());
  response.writeHead(200, {
    "Content-Type": file.type,
    "Content-Encoding": coding,
    "Content-Length": file[coding],
    // The address holds the version's commit, so its content never changes, and no reload need ask for it again.
    "Cache-Control": "public, max-age=31536000, immutable",
    Vary: "Accept-Encoding",
  });
  stream.pipe(response);
  response.on("close", () => stream.destroy());
  return true;
}

require(path.join(root, "out", "node", "entry.js"));
