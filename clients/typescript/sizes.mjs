// Checks what the package costs: an installation with its dependencies, and a page with one service.
import { readFileSync, readdirSync, statSync } from "node:fs";
import { gzipSync } from "node:zlib";

// In bytes: the files of an installation, and a minified bundle that is compressed with gzip.
const INSTALLED_MAX = 6_000_000;
const BUNDLE_MAX = 45_000;

/** Returns the size of a file, or of all files in a folder. */
function sizeOf(path) {
  const found = statSync(path);
  if (!found.isDirectory()) return found.size;
  return readdirSync(path).reduce((sum, name) => sum + sizeOf(`${path}/${name}`), 0);
}

const json = (path) => JSON.parse(readFileSync(path, "utf8"));
// What npm packs, and the dependencies in the versions of the lock file.
const packed = [...json("package.json").files, "package.json", "README.md"];
const locked = Object.entries(json("package-lock.json").packages);
const dependencies = locked.filter(([path, { dev }]) => path !== "" && !dev).map(([path]) => path);
const installed = [...packed, ...dependencies].reduce((sum, path) => sum + sizeOf(path), 0);
const bundle = gzipSync(readFileSync("dist/bundle/one-service.js"), { level: 9 }).length;

const figures = [
  [`the package with ${dependencies.length} dependencies`, installed, INSTALLED_MAX],
  ["a bundle with one service, compressed", bundle, BUNDLE_MAX],
];
for (const [what, bytes, most] of figures) {
  const kilobytes = (size) => `${(size / 1000).toFixed(1)} KB`;
  console.log(`${what}: ${kilobytes(bytes)}, at most ${kilobytes(most)}`);
  if (bytes > most) process.exitCode = 1;
}
