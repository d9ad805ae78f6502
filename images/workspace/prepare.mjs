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

// Parts of built-in extensions that have no use here: chat, and accounts and tunnels of a service that the pod cannot
// use. The rest costs nothing until it is used.
for (const name of ["copilot", "prompt-basics", "microsoft-authentication", "tunnel-forwarding"]) {
  fs.rmSync(path.join(editor, "extensions", name), { recursive: true }); // fails when it is not there
}

// Defaults, which users can change in their settings: the page hands them to the editor before it starts. An editor
// without an open file leaves the keyboard with nobody; the page gives it to the Explorer, unless the user was faster.
const page = path.join(editor, "out", "vs", "code", "browser", "workbench", "workbench.html");
const defaults = JSON.parse(fs.readFileSync(path.join(folder, "defaults.json"), "utf8"));
const script = `<script nonce="{{WORKBENCH_SCRIPT_NONCE}}">
		{
			const element = document.getElementById('vscode-workbench-web-configuration');
			const configuration = JSON.parse(element.getAttribute('data-settings'));
			configuration.configurationDefaults = ${JSON.stringify(defaults)};
			element.setAttribute('data-settings', JSON.stringify(configuration));
		}
		{
			const observer = new MutationObserver(() => {
				const explorer = document.querySelector('.explorer-folders-view .monaco-list[tabindex]');
				if (!explorer?.querySelector('.monaco-list-row')) return;
				observer.disconnect();
				const active = document.activeElement;
				if (active === document.body || active.matches('.editor-group-container.empty')) explorer.focus();
			});
			observer.observe(document, { childList: true, subtree: true });
			setTimeout(() => observer.disconnect(), 60000);
		}
	</script>`;
const start = "<!-- Startup (do not modify order of script tags!) -->";
const parts = fs.readFileSync(page, "utf8").split(start);
assert.equal(parts.length, 2, `${page} has no place for defaults`);
fs.writeFileSync(page, parts.join(`${script}\n\n\t${start}`));

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
