// Everything that takes time: reading pictures, the network, the results. It runs beside the page, which stays fluent.
import * as ort from "./runtime/ort.wasm.bundle.min.mjs";
import * as pixels from "./pixels.js";

// What every browser's canvas holds (Safari's limit on phones). A larger picture is scaled down, and the page says so.
const MOST_PIXELS = 16_777_216;
const PREVIEW_SIDE = 1280;

let session;
let preparation;
let names;
let shot; // the picture: {width, height, rgba, map, preview: {width, height, rgba, map}, adaptive}
let behind; // the picture to put behind: an ImageBitmap
let input;

const actions = {
  /** Load the network. Returns {threads, size}. */
  async open({threads}) {
    const about = await (await get("model.json")).json();
    preparation = preparationOf(about);
    names = {input: about.input.name, output: about.output.name};
    const network = get(`model/${encodeURIComponent(about.file.name)}`).then((answer) => answer.arrayBuffer());
    const runtime = await get("runtime/ort-wasm-simd-threaded.wasm.gz");
    const unpacked = runtime.body.pipeThrough(new DecompressionStream("gzip"));
    ort.env.wasm.wasmBinary = await new Response(unpacked).arrayBuffer();
    ort.env.wasm.numThreads = threads;
    session = await ort.InferenceSession.create(new Uint8Array(await network), {
      executionProviders: ["wasm"],
      logSeverityLevel: 3, // errors alone: what constants are folded into is no news to a visitor
    });
    input = new Float32Array(3 * preparation.height * preparation.width);
    await run(input); // the first run sets up what later ones use again
    return {threads, model: about.weights.file, size: [preparation.height, preparation.width]};
  },

  /** Look at a picture. Returns its size, the milliseconds of each step, and how much of it stands out. */
  async picture({blob}) {
    const started = performance.now();
    const picture = await decode(blob);
    const read = performance.now();
    pixels.prepare(picture.rgba, picture.width, picture.height, preparation, input);
    const prepared = performance.now();
    const {data, h, w} = await run(input);
    const ran = performance.now();
    const map = pixels.toMap(data, h, w, picture.width, picture.height);
    const finished = performance.now();
    const preview = await previewOf(picture, data, h, w, map);
    shot = {...picture, map, preview, adaptive: pixels.adaptiveThreshold(map)};
    return {
      width: picture.width,
      height: picture.height,
      scaledFrom: picture.scaledFrom,
      share: pixels.mean(map),
      milliseconds: {
        read: read - started,
        prepare: prepared - read,
        network: ran - prepared,
        finish: finished - ran,
      },
    };
  },

  /** The picture and a result of it, to look at: RGBA of at most PREVIEW_SIDE pixels a side. */
  async preview({kind, options}) {
    const {width, height} = shot.preview;
    const before = shot.preview.rgba.slice();
    const {rgba: after, threshold} = render(kind, {...shot.preview, adaptive: shot.adaptive}, options);
    return {width, height, before, after, threshold, transfer: [before.buffer, after.buffer]};
  },

  /** A result in full size, as a file. */
  async file({kind, options}) {
    const {width, height} = shot;
    const result = render(kind, shot, options, true);
    if (result.grey) return {blob: await pixels.encodePng(result.grey, width, height, 1), suffix: "png"};
    if (kind === "cutout") return {blob: await pixels.encodePng(result.rgba, width, height, 4), suffix: "png"};
    const canvas = new OffscreenCanvas(width, height);
    canvas.getContext("2d").putImageData(new ImageData(result.rgba, width, height), 0, 0);
    return {blob: await canvas.convertToBlob({type: "image/jpeg", quality: 0.92}), suffix: "jpg"};
  },

  /** One frame of the camera, RGBA, and what is made of it. */
  async frame({width, height, rgba, kind, options}) {
    pixels.prepare(rgba, width, height, preparation, input);
    const {data, h, w} = await run(input);
    const map = pixels.toMap(data, h, w, width, height);
    const result = render(kind, {width, height, rgba, map, adaptive: pixels.adaptiveThreshold(map)}, options);
    const after = result.rgba;
    return {width, height, before: rgba, after, threshold: result.threshold, transfer: [rgba.buffer, after.buffer]};
  },

  /** The picture that the kind "background" puts behind. */
  async behind({blob}) {
    behind?.close();
    behind = await createImageBitmap(blob, {imageOrientation: "from-image"});
  },
};

onmessage = async ({data: {id, action, ...words}}) => {
  try {
    const {transfer = [], ...answer} = (await actions[action](words)) ?? {};
    postMessage({id, answer}, transfer);
  } catch (error) {
    postMessage({id, error: {name: error.name, message: String(error.message ?? error)}});
  }
};

async function get(path) {
  const answer = await fetch(new URL(path, import.meta.url));
  if (!answer.ok) throw new Error(`${path}: ${answer.status} ${answer.statusText}`);
  return answer;
}

/** What the file beside the network says of its input; an error where it asks for what this page cannot do. */
function preparationOf(about) {
  const step = (name) => about.preparation.find((one) => one.step === name) ?? {};
  const {colours} = step("read");
  const {mean, std} = step("normalise");
  const {size, interpolation, align_corners: alignCorners, antialias} = step("resize");
  const finish = about.finish.map((one) => one.step).join();
  const known =
    ["RGB", "BGR"].includes(colours) && interpolation === "bilinear" && !alignCorners && !antialias && mean && std;
  if (!known || finish !== "sigmoid,resize,scale") throw new Error("model.json asks for a preparation unknown here");
  const order = [...colours].map((letter) => "RGB".indexOf(letter));
  return {height: size[0], width: size[1], mean, std, order};
}

async function run(values) {
  const tensor = new ort.Tensor("float32", values, [1, 3, preparation.height, preparation.width]);
  const output = (await session.run({[names.input]: tensor}))[names.output];
  const [h, w] = output.dims.slice(-2);
  return {data: output.data, h, w};
}

/** The pixels of a picture file, RGBA, as stored in it: turned as EXIF says, colours not converted. */
async function decode(blob) {
  const options = {imageOrientation: "from-image", premultiplyAlpha: "none", colorSpaceConversion: "none"};
  let source = await createImageBitmap(blob, options);
  let scaledFrom = null;
  if (source.width * source.height > MOST_PIXELS) {
    scaledFrom = [source.width, source.height];
    const scale = Math.sqrt(MOST_PIXELS / (source.width * source.height));
    const [width, height] = scaledFrom.map((side) => Math.max(1, Math.floor(side * scale)));
    source.close();
    const smaller = {...options, resizeWidth: width, resizeHeight: height, resizeQuality: "high"};
    source = await createImageBitmap(blob, smaller);
  }
  const {width, height} = source;
  const context = new OffscreenCanvas(width, height).getContext("2d", {willReadFrequently: true});
  context.drawImage(source, 0, 0);
  let rgba = context.getImageData(0, 0, width, height).data;
  if (isTransparent(rgba)) rgba = belowOpacity(source) ?? rgba;
  source.close();
  for (let i = 3; i < rgba.length; i += 4) rgba[i] = 255;
  return {width, height, rgba, scaledFrom};
}

function isTransparent(rgba) {
  for (let i = 3; i < rgba.length; i += 4) if (rgba[i] < 255) return true;
  return false;
}

/** The colours below a picture's opacity, which a 2D canvas loses; null where there is no WebGL. */
function belowOpacity(source) {
  const {width, height} = source;
  const gl = new OffscreenCanvas(1, 1).getContext("webgl2");
  if (!gl || Math.max(width, height) > gl.getParameter(gl.MAX_TEXTURE_SIZE)) return null;
  gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
  gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGBA, gl.RGBA, gl.UNSIGNED_BYTE, source);
  gl.bindFramebuffer(gl.FRAMEBUFFER, gl.createFramebuffer());
  const texture = gl.getParameter(gl.TEXTURE_BINDING_2D);
  gl.framebufferTexture2D(gl.FRAMEBUFFER, gl.COLOR_ATTACHMENT0, gl.TEXTURE_2D, texture, 0);
  const rgba = new Uint8ClampedArray(4 * width * height);
  gl.readPixels(0, 0, width, height, gl.RGBA, gl.UNSIGNED_BYTE, new Uint8Array(rgba.buffer));
  const failed = gl.getError();
  gl.getExtension("WEBGL_lose_context")?.loseContext();
  return failed ? null : rgba;
}

async function previewOf(picture, data, h, w, map) {
  const scale = PREVIEW_SIDE / Math.max(picture.width, picture.height);
  if (scale >= 1) return {width: picture.width, height: picture.height, rgba: picture.rgba, map};
  const width = Math.max(1, Math.round(picture.width * scale));
  const height = Math.max(1, Math.round(picture.height * scale));
  const whole = new ImageData(picture.rgba, picture.width, picture.height);
  const smaller = await createImageBitmap(whole, {resizeWidth: width, resizeHeight: height, resizeQuality: "medium"});
  const context = new OffscreenCanvas(width, height).getContext("2d", {willReadFrequently: true});
  context.drawImage(smaller, 0, 0);
  smaller.close();
  const rgba = context.getImageData(0, 0, width, height).data;
  return {width, height, rgba, map: pixels.toMap(data, h, w, width, height)};
}

/** {rgba, threshold} or, of a map and a mask that are to be saved, {grey}. */
function render(kind, {width, height, rgba, map, adaptive}, options, asGrey = false) {
  const threshold = options.threshold === "adaptive" ? adaptive : options.threshold;
  if (kind === "map" || kind === "mask") {
    const grey = kind === "map" ? map : pixels.toMask(map, threshold);
    return asGrey ? {grey} : {rgba: pixels.greyToRgba(grey), threshold};
  }
  if (kind === "overlay") return {rgba: pixels.overlay(rgba, map, width, height, threshold), threshold};
  const opacity = pixels.firm(map, options.firmness);
  if (kind === "cutout") return {rgba: pixels.cutout(rgba, opacity)};
  return {rgba: pixels.compose(rgba, opacity, backgroundOf(options, width, height, rgba, opacity))};
}

function backgroundOf({background, colour, blur}, width, height, rgba, opacity) {
  if (background === "blur") return pixels.blurBehind(rgba, opacity, width, height, blur);
  if (background === "picture" && behind) {
    // covers the whole, its middle in the middle
    const scale = Math.max(width / behind.width, height / behind.height);
    const [w, h] = [behind.width * scale, behind.height * scale];
    const context = new OffscreenCanvas(width, height).getContext("2d", {willReadFrequently: true});
    context.fillStyle = "white";
    context.fillRect(0, 0, width, height);
    context.imageSmoothingQuality = "high";
    context.drawImage(behind, (width - w) / 2, (height - h) / 2, w, h);
    return context.getImageData(0, 0, width, height).data;
  }
  return pixels.plain(background === "colour" ? colour : [255, 255, 255], width * height);
}
