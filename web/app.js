// The page: what people press, and what they see and hear. The work is done in worker.js.
import {LANGUAGES, WORDS} from "./words.js";

const KINDS = ["map", "mask", "cutout", "overlay", "background"];
const MOST_THREADS = 4; // more gain nothing on a network this small

const $ = (id) => document.getElementById(id);
const body = document.body;

let language = remembered() ?? (navigator.language.toLowerCase().startsWith("zh") ? "zh" : "en");
let spoken = ["loading", {}]; // what the status says: a key of WORDS and its values
let facts = null; // of the network, once it is loaded
let kind = "map";
let name = "picture"; // of the picture's file, without its ending
let camera = null; // {stream, facing} while it is on
let frames = 0;

// words

function say(key, values = {}) {
  return WORDS[language][key].replace(/\{(\w+)\}/g, (_, value) => values[value]);
}

function tell(key, values) {
  spoken = [key, values];
  $("status").textContent = say(key, values);
  $("status").classList.toggle("wrong", /^(no|refused|insecure|failed)/.test(key));
}

function remembered() {
  try {
    const kept = localStorage.getItem("language");
    return kept in LANGUAGES ? kept : null;
  } catch {
    return null; // cookies are blocked, and this with them
  }
}

function translate() {
  document.documentElement.lang = language === "zh" ? "zh-Hans" : "en";
  document.title = say("title");
  for (const element of document.querySelectorAll("[data-t]")) element.textContent = say(element.dataset.t);
  $("language").lang = language === "zh" ? "en" : "zh-Hans";
  for (const button of document.querySelectorAll("[data-save]")) {
    button.setAttribute("aria-label", say("save", {what: say(button.dataset.save)}));
    button.title = button.getAttribute("aria-label");
  }
  $("status").textContent = say(...spoken);
  showFacts();
  showSettings();
}

function showFacts() {
  if (!facts) return;
  const threads = facts.threads === 1 ? say("oneThread") : say("threads", {count: facts.threads});
  $("about").textContent = say("about", {model: facts.model, size: facts.size.join(" × "), threads});
}

// the worker

const worker = new Worker("worker.js", {type: "module"});
const waiting = new Map();
let count = 0;

function ask(action, words = {}, transfer = []) {
  return new Promise((resolve, reject) => {
    waiting.set(++count, {resolve, reject});
    worker.postMessage({id: count, action, ...words}, transfer);
  });
}

worker.onmessage = ({data: {id, answer, error}}) => {
  const {resolve, reject} = waiting.get(id);
  waiting.delete(id);
  if (error) reject(Object.assign(new Error(error.message), {name: error.name}));
  else resolve(answer);
};

worker.onerror = (event) => {
  tell("noNetwork", {why: event.message ?? "worker.js"});
  body.dataset.state = "failed";
};

function options() {
  const hex = $("colour").value;
  return {
    threshold: kind === "overlay" ? 0.5 : $("adaptive").checked ? "adaptive" : Number($("threshold").value),
    firmness: Number($("firmness").value),
    background: document.querySelector("[name=background]:checked").value,
    colour: [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16)),
    blur: Number($("blur").value),
  };
}

// pictures

/** Runs `work` with the page's state "busy"; says what went wrong. */
async function busy(key, work, wrong = (error) => ["failed", {why: error.message}]) {
  body.dataset.state = "busy";
  tell(key);
  try {
    await work();
  } catch (error) {
    tell(...wrong(error));
  }
  body.dataset.state = camera ? "live" : "ready";
}

async function open(blob, title) {
  if (!facts) return;
  stopCamera();
  await busy(
    "looking",
    async () => {
      const started = performance.now();
      const found = await ask("picture", {blob});
      name = title.replace(/\.\w+$/, "") || "picture";
      await preview();
      const time = Math.round(performance.now() - started);
      const share = (100 * found.share).toFixed(0);
      tell("found", {share, width: found.width, height: found.height, time});
      if (found.scaledFrom) {
        const to = `${found.width} × ${found.height}`;
        $("status").textContent += ` ${say("scaled", {from: found.scaledFrom.join(" × "), to})}`;
      }
      body.dataset.milliseconds = JSON.stringify(found.milliseconds);
    },
    () => ["noPicture", {name: title}],
  );
}

// all are fetched at the start, once: later the page needs no server
const samples = {};
for (const button of document.querySelectorAll("[data-sample]")) {
  const {sample} = button.dataset;
  samples[sample] = fetch(`samples/${sample}.jpg`).then((answer) => answer.blob());
  samples[sample].then((blob) => (button.querySelector("img").src = URL.createObjectURL(blob)));
}

async function openSample(sample) {
  await open(await samples[sample], sample);
}

let drawing = null; // the preview that is being made; one more is made where something changed meanwhile
let again = false;

function preview() {
  again = Boolean(drawing);
  drawing ??= (async () => {
    do {
      again = false;
      const made = await ask("preview", {kind, options: options()});
      if (!camera) show(made);
    } while (again);
  })().finally(() => (drawing = null));
  return drawing;
}

function draw(canvas, rgba, width, height) {
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, {width, height});
  canvas.getContext("2d").putImageData(new ImageData(rgba, width, height), 0, 0);
}

function show(made) {
  const {width, height} = made;
  $("view").style.setProperty("--ratio", width / height);
  draw($("before"), made.before, width, height);
  draw($("after"), made.after, width, height);
  $("after").setAttribute("aria-label", say(kind));
  if (made.threshold !== undefined && kind === "mask") {
    $("threshold-value").textContent = made.threshold.toFixed(2);
    if ($("adaptive").checked) $("threshold").value = made.threshold;
  }
}

function changed() {
  if (facts && !camera) preview().catch((error) => tell("failed", {why: error.message}));
}

async function save(what) {
  if (!facts || body.dataset.state === "busy") return;
  if (camera) await shoot();
  await busy("saving", async () => {
    const kept = kind;
    kind = what;
    const wanted = options();
    kind = kept;
    const {blob, suffix} = await ask("file", {kind: what, options: wanted});
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = `${name}_${what}.${suffix}`;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    tell("saved", {name: link.download});
  });
}

// the camera

async function startCamera(facing = "environment") {
  if (!facts) return;
  if (!navigator.mediaDevices?.getUserMedia) return tell("insecure");
  stopCamera();
  await busy(
    "starting",
    async () => {
      const video = {facingMode: facing, width: {ideal: 640}, height: {ideal: 480}};
      const stream = await navigator.mediaDevices.getUserMedia({video, audio: false});
      $("video").srcObject = stream;
      await $("video").play();
      camera = {stream, facing};
      const devices = await navigator.mediaDevices.enumerateDevices();
      $("turn").hidden = devices.filter((device) => device.kind === "videoinput").length < 2;
      $("sources").hidden = true;
      $("shooting").hidden = false;
      $("rate").hidden = false;
      $("shutter").focus();
      tell("live");
      live(camera);
    },
    (error) => {
      if (error.name === "NotAllowedError") return ["refused", {}];
      if (["NotFoundError", "OverconstrainedError", "NotReadableError"].includes(error.name)) return ["noCamera", {}];
      return ["failed", {why: error.message}];
    },
  );
}

/** Frame after frame, each as soon as the one before it is shown. */
async function live(mine) {
  const times = [];
  try {
    while (camera === mine) {
      const {width, height, data: rgba} = await nextFrame();
      const made = await ask("frame", {width, height, rgba, kind, options: options()}, [rgba.buffer]);
      if (camera !== mine) break;
      show(made);
      const now = performance.now();
      times.push(now);
      while (now - times[0] > 2000) times.shift();
      $("rate").dataset.frames = ++frames;
      if (times.length > 1 && frames % 5 === 0) {
        const rate = (1000 * (times.length - 1)) / (now - times[0]);
        $("rate").textContent = say("rate", {rate: rate.toFixed(rate < 10 ? 1 : 0)});
      }
    }
  } catch (error) {
    if (camera === mine) {
      stopCamera();
      tell("failed", {why: error.message});
    }
  }
}

let seen = -1; // the video's time at the last frame that was taken
// Pixels, no ImageBitmap: memory behind one is given back only when garbage is collected, a megabyte a frame.
const lens = document.createElement("canvas").getContext("2d", {willReadFrequently: true});

async function nextFrame() {
  const video = $("video");
  while (video.currentTime === seen) await new Promise(requestAnimationFrame);
  seen = video.currentTime;
  const {videoWidth: width, videoHeight: height} = video;
  if (lens.canvas.width !== width || lens.canvas.height !== height) Object.assign(lens.canvas, {width, height});
  lens.drawImage(video, 0, 0);
  return lens.getImageData(0, 0, width, height);
}

function stopCamera() {
  if (!camera) return;
  for (const track of camera.stream.getTracks()) track.stop();
  camera = null;
  $("video").srcObject = null;
  const focused = $("shooting").contains(document.activeElement);
  $("sources").hidden = false;
  $("shooting").hidden = true;
  $("rate").hidden = true;
  if (focused) $("camera").focus();
  if (body.dataset.state === "live") body.dataset.state = "ready";
  tell("stopped");
}

/** The camera's picture becomes the picture. */
async function shoot() {
  const video = $("video");
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  canvas.getContext("2d").drawImage(video, 0, 0);
  const blob = await new Promise((resolve) => canvas.toBlob(resolve));
  await open(blob, "camera");
}

// settings

function showSettings() {
  for (const element of document.querySelectorAll("[data-for]")) {
    element.hidden = !element.dataset.for.split(" ").includes(kind);
  }
  const background = document.querySelector("[name=background]:checked").value;
  for (const element of document.querySelectorAll("[data-background]")) {
    element.hidden = element.dataset.background !== background;
  }
  $("threshold").disabled = $("adaptive").checked;
  if (!$("adaptive").checked) $("threshold-value").textContent = Number($("threshold").value).toFixed(2);
  const firmness = Number($("firmness").value);
  $("firmness-value").textContent = firmness === 1 ? say("soft") : `× ${firmness}`;
}

function divide(share) {
  $("compare").value = share;
  $("view").style.setProperty("--at", `${share}%`);
}

for (const each of KINDS) {
  const row = document.createElement("div");
  row.className = "kind";
  row.innerHTML = `
    <label><input type="radio" name="kind" value="${each}"><span><b data-t="${each}"></b><small data-t="${each}What"></small></span></label>
    <button type="button" class="quiet" data-save="${each}"><svg viewBox="0 0 20 20" width="20" height="20" aria-hidden="true"><path d="M10 3v9m-4-4 4 4 4-4M4 16h12" fill="none" stroke="currentColor" stroke-width="1.8" stroke-linecap="round" stroke-linejoin="round"/></svg></button>`;
  $("kinds").append(row);
}
document.querySelector(`[name=kind][value=${kind}]`).checked = true;

$("kinds").addEventListener("change", (event) => {
  kind = event.target.value;
  showSettings();
  changed();
});
$("kinds").addEventListener("click", (event) => {
  const what = event.target.closest("[data-save]")?.dataset.save;
  if (what) save(what);
});
for (const id of ["threshold", "adaptive", "firmness", "blur", "colour", "backgrounds"]) {
  $(id).addEventListener("input", (event) => {
    if (event.target.type === "file") return;
    showSettings();
    changed();
  });
}
$("behind").addEventListener("change", async () => {
  const [blob] = $("behind").files;
  if (!blob) return;
  try {
    await ask("behind", {blob});
    changed();
  } catch {
    tell("noPicture", {name: blob.name});
  }
});

$("compare").addEventListener("input", () => divide($("compare").value));
function drag(event) {
  if (event.type === "pointermove" && !event.buttons) return;
  const {left, width} = $("stage").getBoundingClientRect();
  divide(Math.round(Math.min(Math.max((100 * (event.clientX - left)) / width, 0), 100)));
}
$("stage").addEventListener("pointerdown", drag);
$("stage").addEventListener("pointermove", drag);

// where pictures come from

$("file").addEventListener("change", () => {
  const [file] = $("file").files;
  if (file) open(file, file.name);
  $("file").value = ""; // the same file may be chosen again
});
$("samples").addEventListener("click", (event) => {
  const sample = event.target.closest("[data-sample]")?.dataset.sample;
  if (sample) openSample(sample);
});
function openFirst(files) {
  const file = [...files].find((one) => one.type.startsWith("image/"));
  if (file) open(file, file.name);
  else tell("noPaste");
}
document.addEventListener("paste", (event) => openFirst(event.clipboardData.files));
$("paste").addEventListener("click", async () => {
  try {
    for (const item of await navigator.clipboard.read()) {
      const type = item.types.find((one) => one.startsWith("image/"));
      if (type) return open(await item.getType(type), "pasted");
    }
  } catch {
    // the browser does not let a page read; it says why
  }
  tell("noPaste");
});
$("paste").hidden = !navigator.clipboard?.read;

let entered = 0; // dragenter and dragleave come for every element below
const carriesFile = (event) => [...event.dataTransfer.types].includes("Files");
addEventListener("dragenter", (event) => {
  if (carriesFile(event)) $("drop").hidden = ++entered === 0;
});
addEventListener("dragleave", (event) => {
  if (carriesFile(event)) $("drop").hidden = --entered <= 0;
});
addEventListener("dragover", (event) => event.preventDefault());
addEventListener("drop", (event) => {
  event.preventDefault();
  entered = 0;
  $("drop").hidden = true;
  if (carriesFile(event)) openFirst(event.dataTransfer.files);
});

$("camera").addEventListener("click", () => startCamera());
$("turn").addEventListener("click", () => startCamera(camera?.facing === "user" ? "environment" : "user"));
$("stop").addEventListener("click", stopCamera);
$("shutter").addEventListener("click", shoot);
document.addEventListener("visibilitychange", () => {
  if (document.hidden) stopCamera(); // nobody looks
});

$("language").addEventListener("click", () => {
  language = language === "zh" ? "en" : "zh";
  try {
    localStorage.setItem("language", language);
  } catch {
    // not kept, then
  }
  translate();
});

// at the start

translate();
divide(35);
const asked = Number(new URLSearchParams(location.search).get("threads")); // ?threads=1 compares
const most = asked || Math.min(Math.max((navigator.hardwareConcurrency ?? 1) - 1, 1), MOST_THREADS); // one for the page
const threads = globalThis.crossOriginIsolated ? most : 1; // shared memory is for isolated pages alone
ask("open", {threads}).then(
  async (answer) => {
    facts = answer;
    showFacts();
    await openSample("astronaut");
    body.dataset.first = Math.round(performance.now());
  },
  (error) => {
    tell("noNetwork", {why: error.message});
    body.dataset.state = "failed";
  },
);
