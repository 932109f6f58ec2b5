// The encoder and the decoder, run by ONNX Runtime in this browser: one thread of WebAssembly.

import * as ort from "./vendor/ort.js";

ort.env.wasm.numThreads = 1; // more would need headers that few static hosts send
ort.env.wasm.wasmPaths = { wasm: new URL("./vendor/ort.wasm", import.meta.url).href };
ort.env.logLevel = "error";

async function open(name) {
  const url = new URL(`./data/${name}.onnx`, import.meta.url);
  const answer = await fetch(url);
  if (!answer.ok) throw new Error(`${url.pathname} could not be read (${answer.status}).`);
  const content = new Uint8Array(await answer.arrayBuffer());
  return ort.InferenceSession.create(content, { executionProviders: ["wasm"] });
}

/** The decoder: z, Float32Array [count * latentDim], to pixels or logits, [count * pixels of an image]. */
export class Decoder {
  static async open(latentDim) {
    return new Decoder(await open("decoder"), latentDim);
  }

  constructor(session, latentDim) {
    this.session = session;
    this.latentDim = latentDim;
  }

  async decode(z, output = "pixels_mean") {
    const shape = [z.length / this.latentDim, this.latentDim];
    const found = await this.session.run({ z: new ort.Tensor("float32", z, shape) }, [output]);
    return found[output].data;
  }
}

/** The encoder: pixels in [0, 1], Float32Array [height * width], to z_mean and z_log_var. */
export class Encoder {
  static async open() {
    return new Encoder(await open("encoder"));
  }

  constructor(session) {
    this.session = session;
  }

  async encode(pixels) {
    const input = new ort.Tensor("float32", pixels, [1, pixels.length]);
    const found = await this.session.run({ pixels: input });
    return { mean: found.z_mean.data, logVar: found.z_log_var.data };
  }
}
