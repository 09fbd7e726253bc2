// The words around the page map: the legend with its counts, and what a cell stands for.
import { count, el, hex, say, sizeText } from "./common.js";
import { KIND, LETTERS, NAMES, TOLD } from "./page_columns.js";

/** Kinds that the legend shows even where there are none. */
const ALWAYS = [KIND.UNMOVABLE, KIND.MOVABLE, KIND.RECLAIMABLE, KIND.FREE];

const swatch = (look, letter) => el("span", { class: `km-swatch ${look}`, "aria-hidden": "true" }, letter);

/**
 * One item for each kind of page, with its count, and one for each owner's mark.
 * @param {import("./page_columns.js").Columns} columns
 */
export function legendItems(columns) {
  const { model, totals } = columns;
  const kinds = TOLD.filter((kind) => totals[kind] || ALWAYS.includes(kind)).map((kind) => {
    const hollow = kind === KIND.FREE || kind === KIND.HOLE;
    const letter = kind === KIND.FREE ? "3" : LETTERS[kind];
    return el("li", {}, swatch(hollow ? "km-hollow" : `km-${NAMES[kind]}`, letter), columns.part(kind, totals[kind]));
  });
  const marks = model.get("_marks");
  const owners = model.get("_owner_names").map((owner, n) => {
    const words = say(model.get("_texts"), "page_map.owner", { owner });
    return owner && el("li", {}, swatch("km-mark", marks[n]), words);
  });
  return [...kinds, ...owners.filter(Boolean)];
}

/**
 * What part of the memory is shown, and how to read a cell.
 * @param {import("./page_columns.js").Columns} columns
 * @param {import("./page_paint.js").Painter} painter
 * @param {boolean} partly whether the window shows less than everything
 */
export function noteLines({ model, first, end }, { window: win, dots }, partly) {
  const tell = (key, fields) => el("div", {}, say(model.get("_texts"), `page_map.${key}`, fields));
  const lines = [];
  if (partly) {
    const [low, high] = [Math.max(win.start, first), Math.min(win.start + win.span, end)];
    const pages = high - low;
    lines.push(tell("shown", { first: hex(low), last: hex(high - 1), pages: count(pages), size: sizeText(pages) }));
  }
  const fields = { pages: count(win.cell), size: sizeText(win.cell) };
  const one = win.cell === 1;
  if (dots) lines.push(tell(one ? "cell_dot" : "cell_dots", fields));
  else lines.push(tell(one ? "cell_page" : "cell_pages", fields));
  return lines;
}
