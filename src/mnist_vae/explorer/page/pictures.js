// Pictures of grey values on canvases, and the sheets that hold the real images.

/** The height and width of the model's images, and the number of their pixels. */
export const size = { height: 0, width: 0, pixels: 0 };

/** Take the size from the model's description, for all pictures of the page. */
export function useShape([height, width]) {
  Object.assign(size, { height, width, pixels: height * width });
  const { style } = document.documentElement;
  style.setProperty("--across", Math.min(1, width / height));
  style.setProperty("--down", Math.min(1, height / width));
  for (const canvas of document.querySelectorAll("canvas.picture")) Object.assign(canvas, { height, width });
}

/** Paint grey values in [0, 1], white on black as in MNIST, from `offset` on. */
export function paint(canvas, pixels, offset = 0) {
  const context = canvas.getContext("2d");
  const image = (canvas.reused ??= context.createImageData(size.width, size.height));
  for (let i = 0; i < size.pixels; i += 1) {
    const grey = Math.round(pixels[offset + i] * 255);
    image.data[4 * i] = image.data[4 * i + 1] = image.data[4 * i + 2] = grey;
    image.data[4 * i + 3] = 255;
  }
  context.putImageData(image, 0, 0);
}

/** Return a canvas for one picture. */
export function makeCanvas() {
  const canvas = document.createElement("canvas");
  canvas.className = "picture";
  Object.assign(canvas, { height: size.height, width: size.width });
  return canvas;
}

/** The real images, on sheets that are fetched when one of their images is asked for. */
export class Thumbnails {
  constructor({ files, columns }) {
    this.files = files;
    this.columns = columns;
    this.sheets = new Map();
  }

  /** Return the grey values of an image, Float32Array [height * width] in [0, 1]. */
  async pixels(index) {
    const perSheet = this.columns ** 2;
    const place = index % perSheet;
    const sheet = await this.sheet(Math.floor(index / perSheet));
    const { height, width, pixels } = size;
    const left = width * (place % this.columns);
    const top = height * Math.floor(place / this.columns);
    const { data } = sheet.getImageData(left, top, width, height);
    return Float32Array.from({ length: pixels }, (_, i) => data[4 * i] / 255);
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
