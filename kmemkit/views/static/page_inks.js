// The page map's colours: those of the theme and of the stylesheet, ready for a canvas.
import { css, mix, rgb } from "./colors.js";
import { color } from "./common.js";
import { KIND, NAMES, TYPES } from "./page_columns.js";

/** The theme's colours where `node` stands, and fills for each kind. */
export function inks(node, context, ratio) {
  const paper = rgb(color(node, "paper"));
  const ink = rgb(color(node, "ink"), css(paper));
  const kinds = NAMES.map((name) => (name && !["free", "hole"].includes(name) ? rgb(color(node, name)) : null));
  const types = TYPES.map((name) => rgb(color(node, name.toLowerCase())));
  const dark = (paper[0] + paper[1] + paper[2]) / 3 < 128;
  const fills = kinds.map((kind) => kind && css(kind));
  fills[KIND.PCP] = stripes(context, kinds[KIND.PCP], ratio, false);
  fills[KIND.SLAB] = cuts(context, kinds[KIND.SLAB], ratio);
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

/** Darker lines from top to bottom: cut into objects. */
function cuts(context, base, ratio) {
  const size = Math.max(4, Math.round(5 * ratio));
  const tile = new OffscreenCanvas(size, 1);
  const pen = tile.getContext("2d");
  pen.fillStyle = css(base);
  pen.fillRect(0, 0, size, 1);
  pen.fillStyle = css(mix(base, [0, 0, 0], 0.34));
  pen.fillRect(0, 0, Math.max(1, Math.round(1.4 * ratio)), 1);
  return context.createPattern(tile, "repeat");
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
