// A real image that was clicked: itself, its reconstruction and its neighbours.

import { nameOf } from "./classes.js";
import { amount, element, facts } from "./elements.js";
import { makeCanvas, paint } from "./pictures.js";
import { negativeElbo } from "./scores.js";

const NEIGHBOURS = 10;

export class Real {
  constructor(explorer) {
    this.explorer = explorer;
  }

  async show(row) {
    const { explorer } = this;
    const { points, model } = explorer;
    this.row = row;
    const isOld = () => this.row !== row;
    const z = Float32Array.from(points.zOf(row));
    const near = points.nearest(z, NEIGHBOURS, row);
    explorer.moveTo(z);
    explorer.forget();
    explorer.pad.mark({ selected: row, neighbours: near });
    const pixels = await explorer.thumbnails.pixels(row);
    const code = await explorer.encoder.encode(pixels);
    const elbo = await negativeElbo(explorer.decoder, model.reconstruction, pixels, code);
    const decoded = await explorer.decoder.decode(z);
    const buttons = await Promise.all(near.map((other) => this.neighbour(other)));
    if (isOld()) return;
    paint(element("real-image"), pixels);
    paint(element("real-decoded"), decoded);
    element("real-facts").replaceChildren(...facts([
      ["Label", nameOf(points.label[row])],
      ["Split", points.splits[points.split[row]]],
      ["image_id", `${points.id[row]}`],
      ["−ELBO", amount(model, elbo, 1)],
    ]));
    element("neighbours").replaceChildren(...buttons);
    element("real-empty").hidden = true;
    element("real-content").hidden = false;
    explorer.explain(pixels, code, elbo);
  }

  async neighbour(row) {
    const { explorer } = this;
    const button = document.createElement("button");
    button.type = "button";
    const { id, label } = explorer.points;
    button.setAttribute("aria-label", `Neighbour ${id[row]}, ${nameOf(label[row])}`);
    const canvas = makeCanvas();
    paint(canvas, await explorer.thumbnails.pixels(row));
    button.append(canvas);
    button.addEventListener("click", () => this.show(row));
    return button;
  }
}
