// Colours as numbers, for what is drawn on a canvas.

/** A CSS colour as [red, green, blue], whatever notation the theme uses. */
export function rgb(colour, paper = "#fff") {
  const context = new OffscreenCanvas(1, 1).getContext("2d");
  for (const layer of [paper, colour]) {
    context.fillStyle = layer;
    context.fillRect(0, 0, 1, 1);
  }
  return [...context.getImageData(0, 0, 1, 1).data.slice(0, 3)];
}

/** Two [red, green, blue] colours mixed, `share` of the other one. */
export const mix = (one, other, share) =>
  one.map((channel, i) => Math.round(channel * (1 - share) + other[i] * share));

/** A [red, green, blue] colour for the canvas. */
export const css = ([red, green, blue]) => `rgb(${red},${green},${blue})`;
