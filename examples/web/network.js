/** Networks in .tflite files, run by LiteRT on one thread of the processor. */

import {loadAndCompile, loadLiteRt, Tensor} from "@litertjs/core";

const WASM = new URL("./node_modules/@litertjs/core/wasm/", import.meta.url).href;

/** Gets LiteRT ready; comes before any network. */
export function startLiteRt() {
  // LiteRT's script takes its settings from here. Without this one, the console shows
  // whatever LiteRT says as an error.
  globalThis.Module = {
    printErr: (line) => (/^(INFO|WARNING):/.test(line) ? console.info : console.error)(line),
  };
  return loadLiteRt(WASM);
}

/** A .tflite file with one input, of RGB pixels, and one output, a score a class. */
export class Network {
  /**
   * Reads a file.
   *
   * @param {object} about what networks.json says of it
   * @param {Uint8Array} content the file
   */
  static async load(about, content) {
    const network = new Network();
    network.about = about;
    network.model = await loadAndCompile(content, {accelerator: "wasm"});
    const [input] = network.model.getInputDetails();
    network.shape = Array.from(input.shape);
    network.isFloat = input.dtype === "float32";
    return network;
  }

  /**
   * Runs it on a picture.
   *
   * @param {Uint8Array} pixels rows of RGB values from 0 to 255
   * @return {Promise<{scores: Float32Array, milliseconds: number}>} probabilities of
   *     all classes (or whatever the file ends with), and how long the network alone took
   */
  async run(pixels) {
    const values = this.isFloat ? this.normalized(pixels) : pixels;
    const input = new Tensor(values, this.shape);
    try {
      const start = performance.now();
      const [output] = await this.model.run([input]);
      const milliseconds = performance.now() - start;
      const scores = output.toTypedArray();
      output.delete();
      return {scores, milliseconds};
    } finally {
      input.delete();
    }
  }

  /**
   * Pixel values as a float32 file expects them. An uint8 file takes them as they are:
   * the steps of its input are those of pixels.
   */
  normalized(pixels) {
    const {mean, std} = this.about;
    return Float32Array.from(
      pixels,
      (pixel, place) => (pixel - mean[place % mean.length]) / std[place % std.length],
    );
  }
}
