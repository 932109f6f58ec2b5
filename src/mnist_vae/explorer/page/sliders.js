// A slider for each coordinate of z.

import { element } from "./elements.js";
import { fixed } from "./pad.js";

const REACH = 4; // standard deviations

export class Sliders {
  constructor(explorer) {
    const { axes } = explorer;
    this.explorer = explorer;
    this.inputs = axes.deviations.map((deviation, axis) => this.add(axes, deviation, axis));
    element("sliders").classList.toggle("principal", axes.principal);
    element("sliders").replaceChildren(...this.inputs.map(({ row }) => row));
    explorer.listeners.push(() => this.update());
  }

  add(axes, deviation, axis) {
    const row = document.createElement("label");
    const name = document.createElement("span");
    name.textContent = axes.name(axis);
    if (axes.principal) {
      const share = document.createElement("small");
      share.textContent = `${(100 * axes.shares[axis]).toFixed(1)} %`;
      share.title = "of the variance of the embeddings";
      name.append(share);
    }
    const input = document.createElement("input");
    const most = axis < 2 ? axes.bound : Math.max(1, REACH * deviation);
    Object.assign(input, { type: "range", min: -most, max: most, step: most / 500 });
    const output = document.createElement("output");
    row.append(name, input, output);
    input.addEventListener("input", (event) => {
      const u = Float32Array.from(this.explorer.u);
      u[axis] = input.valueAsNumber;
      this.moving = axis;
      this.explorer.moveTo(axes.toZ(u), event.timeStamp);
      this.moving = null;
    });
    return { row, input, output };
  }

  update() {
    this.inputs.forEach(({ input, output }, axis) => {
      const value = this.explorer.u[axis];
      if (axis !== this.moving) input.value = value;
      output.textContent = fixed(value, 2);
    });
  }
}
