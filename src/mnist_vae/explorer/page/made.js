// New images of a class.

import { chip, element } from "./elements.js";
import { drawOfClass } from "./latent.js";
import { makeCanvas, paint, size } from "./pictures.js";

const COUNT = 12;
const FIRST = 7;

export class Made {
  constructor(explorer) {
    this.explorer = explorer;
    const { classes } = explorer.model;
    this.chips = classes.map((class_) => {
      const button = chip(class_.label);
      button.setAttribute("aria-label", `Draw new images of class ${class_.name}`);
      button.addEventListener("click", () => this.draw(class_));
      return button;
    });
    element("ask").replaceChildren(...this.chips);
    element("new").hidden = !classes.length;
  }

  start() {
    const { classes } = this.explorer.model;
    const first = classes.find(({ label }) => label === FIRST) ?? classes[0];
    return first && this.draw(first);
  }

  async draw(class_) {
    const { explorer } = this;
    const codes = drawOfClass(explorer.points, class_, COUNT);
    const pixels = await explorer.decoder.decode(Float32Array.from(codes.flatMap((z) => [...z])));
    element("made").replaceChildren(...codes.map((z, number) => {
      const button = document.createElement("button");
      button.type = "button";
      button.setAttribute("aria-label", `New image ${number + 1} of class ${class_.name}`);
      const canvas = makeCanvas();
      paint(canvas, pixels, number * size.pixels);
      button.append(canvas);
      button.addEventListener("click", () => explorer.moveTo(z));
      return button;
    }));
  }
}
