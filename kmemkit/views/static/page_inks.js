// The page map's colours: those of the theme and of the stylesheet, ready for a canvas.
import { color } from "./common.js";
import { KIND, NAMES, TYPES } from "./page_columns.js";

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

/** The theme's colours where `node` stands, and fills for each kind. */
export function inks(node, context, ratio) {
  const paper = rgb(color(node, "paper"));
  const ink = rgb(color(node, "ink"), css(paper));
  const kinds = NAMES.map((name) => (name && !["free", "hole"].includes(name) ? rgb(color(node, name)) : null));
  const types = TYPES.map((name) => rgb(color(node, name.toLowerCase())));
  const dark = (paper[0] + paper[1] + paper[2]) / 3 < 128;
  const fills = kinds.map((kind) => kind && css(kind));
  fills[KIND.PCP] = stripes(context, kinds[KIND.PCP], ratio, false);
  fills[KIND.LEAKED] = stripes(context, kinds[KIND.LEAKED], ratio, true);
  return {
    paper, ink, kinds, types, fills,
    quiet: mix(paper, ink, 0.72),
    rule: mix(paper, ink, 0.3),
    hole: mix(paper, ink, dark ? 0.16 : 0.1),
    tints: types.map((type) => css(mix(paper, type, dark ? 0.2 : 0.09))),
    // Blue is the darkest of the family: on a dark page the outlines need some light.
    lines: types.map((type) => css(dark ? mix(type, [255, 255, 255], 0.25) : type)),
  };
}

/** A diagonal pattern that keeps white letters legible: only darker stripes. */
function stripes(context, base, ratio, crossed) {
  const size = Math.max(4, Math.round(6 * ratio));
  const tile = new OffscreenCanvas(size, size);
  const pen = tile.getContext("2d");
  pen.fillStyle = css(base);
  pen.fillRect(0, 0, size, size);
  pen.strokeStyle = css(mix(base, [0, 0, 0], 0.34));
  pen.lineWidth = size / 3.2;
  for (const shift of [-size, 0, size]) {
    pen.moveTo(shift - 1, size + 1);
    pen.lineTo(shift + size + 1, -1);
    if (crossed) {
      pen.moveTo(shift - 1, -1);
      pen.lineTo(shift + size + 1, size + 1);
    }
  }
  pen.stroke();
  return context.createPattern(tile, "repeat");
}
