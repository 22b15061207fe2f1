// Arithmetic on pixels: from a picture to the network's input, from its logits to a map, from the map to results.
// The same numbers as kdscfnet's Python; nothing here knows of a page, so it runs in a worker and in Node alike.

/** Where `target` pixels lie between `source` pixels: indices before and after, weight of the one after. */
function positions(source, target, alignCorners) {
  const before = new Int32Array(target);
  const after = new Int32Array(target);
  const weight = new Float32Array(target);
  const scale = alignCorners ? (target > 1 ? (source - 1) / (target - 1) : 0) : source / target;
  for (let i = 0; i < target; i++) {
    // half-pixel centres are beyond the outermost ones at the edges: these are repeated, as OpenCV does
    const place = Math.min(Math.max(alignCorners ? i * scale : (i + 0.5) * scale - 0.5, 0), source - 1);
    before[i] = Math.min(Math.floor(place), Math.max(source - 2, 0));
    after[i] = Math.min(before[i] + 1, source - 1);
    weight[i] = place - before[i];
  }
  return {before, after, weight};
}

/**
 * The network's input: bilinear with half-pixel centres, without antialiasing, and normalised.
 * @param pixels RGBA, 8 bits, width × height; opacity is ignored
 * @param preparation {height, width, mean, std, order}; order: which channel of RGB comes first, second, third
 * @returns Float32Array 3 × height × width
 */
export function prepare(pixels, width, height, preparation, out) {
  const {height: h, width: w, mean, std, order} = preparation;
  const result = out ?? new Float32Array(3 * h * w);
  const columns = positions(width, w, false);
  const rows = positions(height, h, false);
  for (let y = 0; y < h; y++) {
    const top = rows.before[y] * width;
    const bottom = rows.after[y] * width;
    const down = rows.weight[y];
    for (let x = 0; x < w; x++) {
      const left = columns.before[x];
      const right = columns.after[x];
      const along = columns.weight[x];
      for (let channel = 0; channel < 3; channel++) {
        const c = order[channel];
        const a = pixels[4 * (top + left) + c];
        const b = pixels[4 * (bottom + left) + c];
        const upper = a + (pixels[4 * (top + right) + c] - a) * along;
        const lower = b + (pixels[4 * (bottom + right) + c] - b) * along;
        result[(channel * h + y) * w + x] = (upper + (lower - upper) * down - mean[channel]) / std[channel];
      }
    }
  }
  return result;
}

/** To the nearest, halves to even, as OpenCV rounds. */
function round(value) {
  const below = Math.floor(value);
  const rest = value - below;
  return rest > 0.5 || (rest === 0.5 && below % 2 === 1) ? below + 1 : below;
}

/** The finest logits, h × w → the saliency map, 8 bits, height × width: sigmoid, bilinear with aligned corners, × 255. */
export function toMap(logits, h, w, width, height) {
  const saliency = new Float32Array(h * w);
  for (let i = 0; i < saliency.length; i++) saliency[i] = 1 / (1 + Math.exp(-logits[i]));
  const columns = positions(w, width, true);
  const rows = positions(h, height, true);
  const wide = new Float32Array(h * width);
  for (let y = 0; y < h; y++) {
    for (let x = 0; x < width; x++) {
      const a = saliency[y * w + columns.before[x]];
      wide[y * width + x] = a + (saliency[y * w + columns.after[x]] - a) * columns.weight[x];
    }
  }
  const map = new Uint8Array(width * height);
  for (let y = 0; y < height; y++) {
    const top = rows.before[y] * width;
    const bottom = rows.after[y] * width;
    const down = rows.weight[y];
    for (let x = 0; x < width; x++) {
      const a = wide[top + x];
      map[y * width + x] = round((a + (wide[bottom + x] - a) * down) * 255);
    }
  }
  return map;
}

/** The mean of a map, 0 to 1. */
export function mean(map) {
  let sum = 0;
  for (let i = 0; i < map.length; i++) sum += map[i];
  return map.length ? sum / map.length / 255 : 0;
}

/** The threshold "adaptive" of a map: twice its mean, at most 1 (Achanta et al., 2009). */
export function adaptiveThreshold(map) {
  return Math.min(2 * mean(map), 1);
}

/** 0 and 255, where the map reaches `threshold` (0 to 1). */
export function toMask(map, threshold) {
  const mask = new Uint8Array(map.length);
  for (let i = 0; i < map.length; i++) mask[i] = map[i] >= threshold * 255 ? 255 : 0;
  return mask;
}

/** The map with firmer edges: its contrast about one half, times `firmness` (1: as it is). */
export function firm(map, firmness) {
  if (firmness === 1) return map;
  const table = new Uint8ClampedArray(256);
  for (let level = 0; level < 256; level++) table[level] = (level - 127.5) * firmness + 127.5;
  return map.map((level) => table[level]);
}

/** Grey levels as opaque RGBA. */
export function greyToRgba(grey) {
  const out = new Uint8ClampedArray(4 * grey.length);
  for (let i = 0; i < grey.length; i++) {
    out[4 * i] = out[4 * i + 1] = out[4 * i + 2] = grey[i];
    out[4 * i + 3] = 255;
  }
  return out;
}

/** The picture, as opaque as it is salient. */
export function cutout(pixels, map) {
  const out = new Uint8ClampedArray(pixels);
  for (let i = 0; i < map.length; i++) out[4 * i + 3] = map[i];
  return out;
}

const TINT = [255, 45, 85];
const STRENGTH = 0.55;

/** The picture, tinted where it is salient, with the outline of the mask at `threshold`. */
export function overlay(pixels, map, width, height, threshold) {
  const out = new Uint8ClampedArray(pixels.length);
  for (let i = 0; i < map.length; i++) {
    const share = (map[i] / 255) * STRENGTH;
    for (let c = 0; c < 3; c++) out[4 * i + c] = pixels[4 * i + c] + (TINT[c] - pixels[4 * i + c]) * share;
    out[4 * i + 3] = 255;
  }
  const level = threshold * 255;
  const radius = Math.max(1, Math.round(Math.min(width, height) / 250)) / 2;
  const from = -Math.ceil(radius - 0.5);
  const to = Math.floor(radius);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const i = y * width + x;
      if (map[i] < level) continue;
      const edge =
        (x > 0 && map[i - 1] < level) ||
        (x < width - 1 && map[i + 1] < level) ||
        (y > 0 && map[i - width] < level) ||
        (y < height - 1 && map[i + width] < level);
      if (!edge) continue;
      for (let v = Math.max(y + from, 0); v <= Math.min(y + to, height - 1); v++) {
        for (let u = Math.max(x + from, 0); u <= Math.min(x + to, width - 1); u++) {
          const at = 4 * (v * width + u);
          out[at] = out[at + 1] = out[at + 2] = 255;
        }
      }
    }
  }
  return out;
}

/** The picture over another one of the same size, RGBA, as opaque as it is salient. */
export function compose(pixels, map, behind) {
  const out = new Uint8ClampedArray(pixels.length);
  for (let i = 0; i < map.length; i++) {
    const share = map[i] / 255;
    for (let c = 0; c < 3; c++) {
      const below = behind[4 * i + c];
      out[4 * i + c] = below + (pixels[4 * i + c] - below) * share;
    }
    out[4 * i + 3] = 255;
  }
  return out;
}

/** One colour, [red, green, blue], as RGBA of `count` pixels. */
export function plain(colour, count) {
  const out = new Uint8ClampedArray(4 * count);
  for (let i = 0; i < count; i++) {
    for (let c = 0; c < 3; c++) out[4 * i + c] = colour[c];
    out[4 * i + 3] = 255;
  }
  return out;
}

/**
 * What is behind the salient things, out of focus. What is salient takes no part, so its colours leave no halo.
 * @param strength the blur's width as a share of the longer side
 */
export function blurBehind(pixels, map, width, height, strength) {
  // a blur needs no more than this many pixels a side; the rest is interpolation
  const shrink = Math.max(1, Math.ceil(Math.max(width, height) / 480));
  const w = Math.ceil(width / shrink);
  const h = Math.ceil(height / shrink);
  const planes = [0, 1, 2, 3].map(() => new Float32Array(w * h));
  for (let y = 0; y < height; y++) {
    const row = Math.floor(y / shrink) * w;
    for (let x = 0; x < width; x++) {
      const i = y * width + x;
      const to = row + Math.floor(x / shrink);
      // a little of everything, so that there is a colour where nothing but salient things is near
      const share = 1e-4 + (1 - map[i] / 255) ** 2;
      for (let c = 0; c < 3; c++) planes[c][to] += pixels[4 * i + c] * share;
      planes[3][to] += share;
    }
  }
  const radius = Math.max(1, Math.round((Math.max(w, h) * strength) / 2));
  for (const plane of planes) for (let pass = 0; pass < 3; pass++) boxBlur(plane, w, h, radius);
  for (let i = 0; i < w * h; i++) for (let c = 0; c < 3; c++) planes[c][i] /= planes[3][i];
  const out = new Uint8ClampedArray(4 * width * height);
  const columns = positions(w, width, false);
  const rows = positions(h, height, false);
  for (let y = 0; y < height; y++) {
    const top = rows.before[y] * w;
    const bottom = rows.after[y] * w;
    const down = rows.weight[y];
    for (let x = 0; x < width; x++) {
      const left = columns.before[x];
      const right = columns.after[x];
      const along = columns.weight[x];
      const i = 4 * (y * width + x);
      for (let c = 0; c < 3; c++) {
        const plane = planes[c];
        const a = plane[top + left] + (plane[top + right] - plane[top + left]) * along;
        const b = plane[bottom + left] + (plane[bottom + right] - plane[bottom + left]) * along;
        out[i + c] = a + (b - a) * down;
      }
      out[i + 3] = 255;
    }
  }
  return out;
}

function boxBlur(plane, w, h, radius) {
  const line = new Float64Array(Math.max(w, h));
  const along = (start, step, length) => {
    // the edge's pixels are repeated
    const at = (i) => line[Math.min(Math.max(i, 0), length - 1)];
    for (let i = 0; i < length; i++) line[i] = plane[start + i * step];
    let sum = 0;
    for (let i = -radius; i <= radius; i++) sum += at(i);
    for (let i = 0; i < length; i++) {
      plane[start + i * step] = sum / (2 * radius + 1);
      sum += at(i + radius + 1) - at(i - radius);
    }
  };
  for (let y = 0; y < h; y++) along(y * w, 1, w);
  for (let x = 0; x < w; x++) along(x, w, h);
}

const CRC = new Int32Array(256).map((_, n) => {
  for (let bit = 0; bit < 8; bit++) n = n & 1 ? (n >>> 1) ^ 0xedb88320 : n >>> 1;
  return n;
});

function chunk(type, data) {
  const out = new Uint8Array(data.length + 12);
  const view = new DataView(out.buffer);
  view.setUint32(0, data.length);
  for (let i = 0; i < 4; i++) out[4 + i] = type.charCodeAt(i);
  out.set(data, 8);
  let crc = -1;
  for (let i = 4; i < out.length - 4; i++) crc = (crc >>> 8) ^ CRC[(crc ^ out[i]) & 255];
  view.setInt32(out.length - 4, ~crc);
  return out;
}

/**
 * A PNG file with exactly these pixels. (A canvas stores colours times opacity, and loses what is below it.)
 * @param channels 1: grey; 4: RGBA
 */
export async function encodePng(pixels, width, height, channels) {
  const stride = width * channels;
  const rows = new Uint8Array((stride + 1) * height);
  for (let y = 0; y < height; y++) {
    const to = y * (stride + 1);
    rows[to] = 1; // the filter "Sub": the difference to the pixel on the left
    const row = pixels.subarray(y * stride, (y + 1) * stride);
    rows.set(row, to + 1);
    for (let x = channels; x < stride; x++) rows[to + 1 + x] -= row[x - channels];
  }
  const packed = new Blob([rows]).stream().pipeThrough(new CompressionStream("deflate"));
  const data = new Uint8Array(await new Response(packed).arrayBuffer());
  const header = new Uint8Array(13);
  const view = new DataView(header.buffer);
  view.setUint32(0, width);
  view.setUint32(4, height);
  header.set([8, channels === 1 ? 0 : 6, 0, 0, 0], 8);
  const signature = new Uint8Array([137, 80, 78, 71, 13, 10, 26, 10]);
  const parts = [signature, chunk("IHDR", header), chunk("IDAT", data), chunk("IEND", new Uint8Array(0))];
  return new Blob(parts, {type: "image/png"});
}
