// Pictures of 28 x 28 grey values on canvases, and the sheets that hold the real images.

import { N_PIXELS, SIDE } from "./networks.js";

/** Paint grey values in [0, 1], white on black as in MNIST, from `offset` on. */
export function paint(canvas, pixels, offset = 0) {
  const context = canvas.getContext("2d");
  const image = (canvas.reused ??= context.createImageData(SIDE, SIDE));
  for (let i = 0; i < N_PIXELS; i += 1) {
    const grey = Math.round(pixels[offset + i] * 255);
    image.data[4 * i] = image.data[4 * i + 1] = image.data[4 * i + 2] = grey;
    image.data[4 * i + 3] = 255;
  }
  context.putImageData(image, 0, 0);
}

/** Return a canvas for one picture. */
export function makeCanvas() {
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = SIDE;
  return canvas;
}

/** The real images, on sheets that are fetched when one of their images is asked for. */
export class Thumbnails {
  constructor({ files, columns }) {
    this.files = files;
    this.columns = columns;
    this.sheets = new Map();
  }

  /** Return the grey values of an image, Float32Array [784] in [0, 1]. */
  async pixels(index) {
    const perSheet = this.columns ** 2;
    const place = index % perSheet;
    const sheet = await this.sheet(Math.floor(index / perSheet));
    const left = SIDE * (place % this.columns);
    const top = SIDE * Math.floor(place / this.columns);
    const { data } = sheet.getImageData(left, top, SIDE, SIDE);
    return Float32Array.from({ length: N_PIXELS }, (_, i) => data[4 * i] / 255);
  }

  sheet(number) {
    if (!this.sheets.has(number)) {
      const read = this.read(number);
      read.catch(() => this.sheets.delete(number));
      this.sheets.set(number, read);
    }
    return this.sheets.get(number);
  }

  async read(number) {
    const answer = await fetch(new URL(`./data/${this.files[number]}`, import.meta.url));
    if (!answer.ok) throw new Error(`${this.files[number]} could not be read (${answer.status}).`);
    const bitmap = await createImageBitmap(await answer.blob());
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [bitmap.width, bitmap.height];
    const context = canvas.getContext("2d", { willReadFrequently: true });
    context.drawImage(bitmap, 0, 0);
    return context;
  }
}
