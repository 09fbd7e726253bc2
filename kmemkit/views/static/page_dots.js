// The page map where a cell is too small for a letter: one dot a cell, through one ImageData.
import { mix } from "./colors.js";
import { KIND } from "./page_columns.js";

/** A colour as ImageData's 32-bit word. */
const word = ([red, green, blue]) => (255 << 24) | (blue << 16) | (green << 8) | red;

/**
 * The cells [low, high), whole rows, as a canvas of one pixel a cell.
 * @param {import("./page_columns.js").Columns} columns
 * @param {{start: number, cell: number, width: number}} win
 * @param {object} inks the theme's colours, see page_inks.js
 */
export function dotImage(columns, win, inks, low, high) {
  const image = new ImageData(win.width, (high - low) / win.width);
  const dots = new Uint32Array(image.data.buffer);
  if (win.cell === 1) pageDots(dots, columns, win, inks, low, high);
  else meanDots(dots, columns, win, inks, low, high);
  const canvas = new OffscreenCanvas(image.width, image.height);
  canvas.getContext("2d").putImageData(image, 0, 0);
  return canvas;
}

/** Four colour words for each kind, by the parity of column and row: kinds differ in texture too. */
function textures({ kinds, paper, hole }) {
  const black = [0, 0, 0];
  const woven = {
    [KIND.MOVABLE]: [paper, 0.3, [2, 3]],
    [KIND.RECLAIMABLE]: [paper, 0.4, [0, 3]],
    [KIND.SLAB]: [black, 0.35, [1, 3]],
    [KIND.PCP]: [black, 0.4, [1, 2]],
  };
  return kinds.map((base, kind) => {
    const [thread, share, where] = woven[kind] ?? [paper, 0, []];
    const plain = base ?? hole;
    return [0, 1, 2, 3].map((at) => word(where.includes(at) ? mix(plain, thread, share) : plain));
  });
}

/** One dot a page. */
function pageDots(dots, columns, { start, width }, inks, low, high) {
  const words = textures(inks);
  const free = inks.types.map((type) => word(mix(inks.paper, type, 0.14)));
  const { pages, first } = columns;
  const stop = Math.min(columns.end, start + high);
  let pfn = Math.max(first, start + low);
  let block = columns.block(pfn);
  while (pfn < stop) {
    const end = Math.min(stop, block.head + block.size);
    if (block.kind === KIND.FREE) {
      dots.fill(free[columns.blockType(pfn) ?? 0], pfn - start - low, end - start - low);
      pfn = end;
    }
    const four = words[block.kind];
    for (; pfn < end; pfn++) {
      const index = pfn - start;
      dots[index - low] = four[(index & 1) | (((index / width) & 1) << 1)];
    }
    // Every further block begins here, so its byte says all: no search for the head.
    const byte = pages[pfn - first];
    block.head = pfn;
    block.kind = byte < 16 ? KIND.HOLE : byte >> 4;
    block.size = byte < 16 ? 1 : 1 << (byte & 15);
  }
}

/** One dot for several pages: the mean of their colours. */
function meanDots(dots, columns, { start, cell }, { kinds, types, paper, hole }, low, high) {
  const shades = kinds.map((kind) => kind ?? hole);
  const free = types.map((type) => mix(paper, type, 0.14));
  const stop = Math.min(columns.end, start + high * cell);
  let pfn = Math.max(columns.first, start + low * cell);
  let index = Math.floor((pfn - start) / cell);
  let [red, green, blue, seen] = [0, 0, 0, 0];
  while (pfn < stop) {
    const block = columns.block(pfn);
    const end = Math.min(stop, block.head + block.size);
    const shade = block.kind === KIND.FREE ? free[columns.blockType(pfn) ?? 0] : shades[block.kind];
    while (pfn < end) {
      const cellEnd = Math.min(stop, start + (index + 1) * cell);
      const pages = Math.min(end, cellEnd) - pfn;
      red += shade[0] * pages;
      green += shade[1] * pages;
      blue += shade[2] * pages;
      seen += pages;
      pfn += pages;
      if (pfn < cellEnd) continue;
      dots[index++ - low] = word([red, green, blue].map((sum) => Math.round(sum / seen)));
      red = green = blue = seen = 0;
    }
  }
}
