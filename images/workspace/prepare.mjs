/* Prepares code-server while its image is built: what it need not do again in every pod, and for every browser.
 *
 *   node prepare.mjs <folder of code-server's node_modules>
 *
 * Every step fails when code-server is not as expected, so that a new version cannot lose one unnoticed. */
import assert from "node:assert";
import fs from "node:fs";
import path from "node:path";
import zlib from "node:zlib";

const folder = path.resolve(process.argv[2]);
const editor = path.join(folder, "node_modules", "code-server", "lib", "vscode");

// Parts of built-in extensions that have no use here: chat, accounts and tunnels of a service that the pod cannot use,
// and what debugs a browser or an editor on the user's own machine. The rest costs nothing until it is used.
for (const name of [
  "copilot",
  "microsoft-authentication",
  "ms-vscode.js-debug-companion",
  "prompt-basics",
  "tunnel-forwarding",
]) {
  fs.rmSync(path.join(editor, "extensions", name), { recursive: true }); // fails when it is not there
}
// A quarter of all that extensions say about themselves, which each page and each host of extensions reads.
const manifest = path.join(editor, "extensions", "ms-vscode.js-debug", "package.json");
const debug = JSON.parse(fs.readFileSync(manifest, "utf8"));
const inThePod = ["node", "node-terminal", "pwa-node"];
const debuggers = debug.contributes.debuggers.filter(({ type }) => inThePod.includes(type));
assert.equal(debuggers.length, inThePod.length, `${manifest} has other debuggers`);
debug.contributes.debuggers = debuggers;
fs.writeFileSync(manifest, JSON.stringify(debug));

// The page starts a second host of extensions, in the browser, for copies of the built-in ones that run in the pod. It
// needs neither. As in VS Code's desktop program, the host starts with the first extension that can run only there.
const script = path.join(editor, "out", "vs", "code", "browser", "workbench", "workbench.js");
change(
  script,
  /let (\w+)=\w+\?2:1;(return this\._instantiationService\.createInstance\(\w+,\w+,\1,)/g,
  "let $1=3;$2",
);
change(script, /(this\._createLocalExtensionHostDataProvider\(\w+,\w+,)\w+\)\)/g, "$1!1))");
const last = /let \w+=\w+\.document\.getElementById\("vscode-workbench-builtin-extensions"\)/.source;
change(script, new RegExp(`if\\(\\w+\\.isBuilt\\)\\w+=\\[\\{extensionPath:.*?\\}\\];else(?=\\{${last})`, "gs"), "");
// It opens the file of chat's language models, if only to find it empty, and so starts the support for JSON while the
// user waits for other files. Ten seconds later nobody does.
change(
  script,
  /this\._whenReady=(?=this\.updateLanguageModelsConfiguration\(\))/g,
  "this._whenReady=new Promise(resolve=>setTimeout(resolve,1e4)).then(()=>",
);
change(script, /(then\(\(\)=>this\.updateLanguageModelsConfiguration\(\))/g, "$1)");

// The processes that the server starts, above all the host of extensions, keep compiled code in the user's home: what
// they load depends on the user's extensions, and the folder in the image cannot be written to.
const fork = path.join(editor, "out", "bootstrap-fork.js");
change(
  fork,
  /^\/\*!-+\n/g,
  `import{enableCompileCache,flushCompileCache}from"node:module";import{homedir}from"node:os";` +
    `enableCompileCache(homedir()+"/.cache/code-server/compiled");setTimeout(flushCompileCache,2e4).unref();\n$&`,
);

// Defaults, which users can change in their settings: the page hands them to the editor before it starts. An editor
// without an open file leaves the keyboard with nobody; the page gives it to the Explorer, unless the user was faster.
const page = path.join(editor, "out", "vs", "code", "browser", "workbench", "workbench.html");
const defaults = JSON.parse(fs.readFileSync(path.join(folder, "defaults.json"), "utf8"));
const defaulting = `<script nonce="{{WORKBENCH_SCRIPT_NONCE}}">
		{
			const element = document.getElementById('vscode-workbench-web-configuration');
			const configuration = JSON.parse(element.getAttribute('data-settings'));
			configuration.configurationDefaults = ${JSON.stringify(defaults)};
			element.setAttribute('data-settings', JSON.stringify(configuration));
		}
		{
			let late;
			const observer = new MutationObserver(() => {
				const explorer = document.querySelector('.explorer-folders-view .monaco-list[tabindex]');
				if (!explorer) return;
				if (explorer.querySelector('.monaco-list-row')) give(explorer);
				else late ??= setTimeout(() => give(explorer), 3000); // an empty folder never shows a row
			});
			const give = (explorer) => {
				observer.disconnect();
				clearTimeout(late);
				const active = document.activeElement;
				if (active === document.body || active.matches('.editor-group-container.empty')) explorer.focus();
			};
			observer.observe(document, { childList: true, subtree: true });
			setTimeout(() => observer.disconnect(), 60000);
		}
	</script>`;
const start = "<!-- Startup (do not modify order of script tags!) -->";
const parts = fs.readFileSync(page, "utf8").split(start);
assert.equal(parts.length, 2, `${page} has no place for defaults`);
fs.writeFileSync(page, parts.join(`${defaulting}\n\n\t${start}`));

// What browsers load, compressed once.
const types = {
  ".css": "text/css",
  ".html": "text/html",
  ".js": "text/javascript",
  ".json": "application/json",
  ".svg": "image/svg+xml",
  ".ttf": "font/ttf",
  ".wasm": "application/wasm",
};
const files = [
  "out/nls.messages.js",
  ...found("out/media"),
  ...found("out/vs").filter((name) => !name.includes("/node/")),
  ...found("node_modules/vscode-oniguruma/release"),
  ...found("node_modules/vscode-textmate/release"),
];
const compressed = {};
for (const name of files) {
  const type = types[path.extname(name)];
  const content = fs.readFileSync(path.join(editor, name));
  if (type === undefined || content.length < 2048 || name.endsWith("workbench.html")) continue;
  const made = {
    br: zlib.brotliCompressSync(content, {
      params: {
        [zlib.constants.BROTLI_PARAM_LGWIN]: 22,
        [zlib.constants.BROTLI_PARAM_QUALITY]: 10,
        [zlib.constants.BROTLI_PARAM_SIZE_HINT]: content.length,
      },
    }),
    gzip: zlib.gzipSync(content, { level: 9 }),
  };
  compressed[name] = { type };
  for (const [coding, bytes] of Object.entries(made)) {
    const target = path.join(folder, "compressed", `${name}.${coding}`);
    fs.mkdirSync(path.dirname(target), { recursive: true });
    fs.writeFileSync(target, bytes);
    compressed[name][coding] = bytes.length;
  }
}
assert(compressed["out/vs/code/browser/workbench/workbench.js"], "the editor's main script is not where it was");
fs.writeFileSync(path.join(folder, "compressed.json"), JSON.stringify(compressed));

function found(below) {
  return fs
    .readdirSync(path.join(editor, below), { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .map((entry) => path.relative(editor, path.join(entry.parentPath, entry.name)));
}

function change(file, place, content) {
  const before = fs.readFileSync(file, "utf8");
  const found = before.match(place)?.length;
  assert.equal(found, 1, `${file}: ${place} is there ${found ?? 0} times`);
  fs.writeFileSync(file, before.replace(place, content));
}
