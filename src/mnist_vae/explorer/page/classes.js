// The classes of the images: what they are called, and their colours.

import { UNLABELLED } from "./latent.js";

const classes = new Map();

/** Take the classes from the model's description. */
export function useClasses({ classes: given, unlabelled }) {
  for (const { label, name, colour } of given) classes.set(label, { name, colour });
  classes.set(UNLABELLED, { name: "no label", colour: unlabelled });
}

/** Return what a class is called. */
export const nameOf = (label) => classes.get(label).name;

/** Return the colour of a class. */
export const colourOf = (label) => classes.get(label).colour;
