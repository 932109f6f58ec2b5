// Elements of the page: found, and made.

import { colourOf, nameOf } from "./classes.js";
import { fixed } from "./pad.js";

/** Return the element of this id. */
export const element = (id) => document.getElementById(id);

/** Return −ELBO or its like for people: nats, but of a squared error, which has no unit. */
export function amount({ reconstruction }, value, digits) {
  return `${fixed(value, digits)}${reconstruction === "mse" ? "" : " nats"}`;
}

/** Return rows of a description list. */
export function facts(pairs) {
  return pairs.flatMap(([name, value]) => {
    const [term, description] = [document.createElement("dt"), document.createElement("dd")];
    [term.textContent, description.textContent] = [name, value];
    return [term, description];
  });
}

/** Return a button with a coloured dot and the name of a class. */
export function chip(label) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "chip";
  button.title = nameOf(label);
  const [dot, name] = [document.createElement("i"), document.createElement("span")];
  dot.style.background = colourOf(label);
  name.textContent = nameOf(label);
  button.append(dot, name);
  return button;
}
