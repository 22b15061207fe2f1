// npm run vendor: from node_modules, which npm has checked against package-lock.json, to runtime/.
import {copyFileSync, readFileSync, writeFileSync} from "node:fs";
import {gzipSync} from "node:zlib";

const source = new URL("node_modules/onnxruntime-web/dist/", import.meta.url);
const target = new URL("runtime/", import.meta.url);

copyFileSync(new URL("ort.wasm.bundle.min.mjs", source), new URL("ort.wasm.bundle.min.mjs", target));
// Packed, it is a quarter of its size in the repository and on the wire, on hosts that do not compress, too.
const wasm = readFileSync(new URL("ort-wasm-simd-threaded.wasm", source));
writeFileSync(new URL("ort-wasm-simd-threaded.wasm.gz", target), gzipSync(wasm, {level: 9}));
