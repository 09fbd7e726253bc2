// The picture of LeakGym: the variable, the structure with its pointers, and what they lead to, as
// boxes and arrows. Everything is told in words too: in the boxes, and as the picture's name.

const SVG = "http://www.w3.org/2000/svg";
const [ROW, TOP, BOX, HEAD] = [50, 58, 40, 26]; // heights: a row, above the first, a box, a title
const COLUMNS = [0, 210, 442]; // left edges: the structure, what it points to, what that points to
const WIDTHS = [150, 184, 184];
const GLYPHS = { held: "●", leaked: "✗", freed: "○", failed: "∅", none: "·" };

/** An SVG element. @param {string} tag @param {Record<string, unknown>} props */
function svg(tag, props, ...children) {
  const node = document.createElementNS(SVG, tag);
  for (const [name, value] of Object.entries(props)) node.setAttribute(name, String(value));
  node.append(...children);
  return node;
}

const words = (x, y, what, kind = "") => svg("text", { x, y, class: `km-leak-text ${kind}` }, what);

/** An arrow to the right with its head at (x2, y), or down if x1 is x2. */
function arrow(x1, y1, x2, y2, kind) {
  const head = x1 === x2 ? `M${x2 - 4} ${y2 - 8}L${x2} ${y2}L${x2 + 4} ${y2 - 8}` : `M${x2 - 8} ${y2 - 4}L${x2} ${y2}L${x2 - 8} ${y2 + 4}`;
  return svg("g", { class: `km-leak-arrow km-leak-${kind}` }, svg("path", { d: `M${x1} ${y1}L${x2} ${y2}` }), svg("path", { d: head, class: "km-leak-head" }));
}

/** A box that holds a title and its state. */
function box({ x, y, width, height }, thing) {
  return svg(
    "g",
    { class: `km-leak-box km-leak-is-${thing.state}` },
    svg("rect", { x: x + 0.75, y: y + 0.75, width: width - 1.5, height: height - 1.5, rx: 4 }),
    svg("rect", { x, y, width: 5, height, rx: 2, class: "km-leak-edge" }),
    words(x + 13, y + 16, thing.label, "km-leak-name"),
    words(x + 13, y + 31, `${GLYPHS[thing.state]} ${thing.told}${["held", "leaked"].includes(thing.state) ? `, ${thing.size}` : ""}`),
  );
}

/** What a pointer is: a dot, and an arrow, a broken arrow or NULL. */
function pointer(thing, x, y, to) {
  if (thing.slot === "gone") return "";
  const dot = svg("circle", { cx: x, cy: y, r: 3.5, class: `km-leak-dot km-leak-${thing.slot}` });
  if (thing.slot === "null") return svg("g", {}, dot, words(x + 9, y + 4, "NULL", "km-leak-quiet"));
  return svg("g", {}, dot, arrow(x + 3.5, y, to, y, thing.slot));
}

/**
 * Draw one step: `things` and who holds the first of them.
 * @param {{ things: object[], holder: string, held_by: string }} shot
 * @param {string} name for readers of the screen
 * @returns {SVGElement}
 */
export function leakPicture({ things, holder, held_by }, name) {
  const [dev, ...rest] = things;
  const rows = new Map();
  const depth = (one) => (one.parent === dev.path ? 1 : 2);
  for (const one of rest) {
    const shared = depth(one) === 2 && rows.get(one.parent);
    rows.set(one.path, shared === false || shared === undefined ? new Set(rows.values()).size : shared);
  }
  const count = new Set(rows.values()).size;
  const columns = rest.some((one) => depth(one) === 2) ? 3 : 2;
  const width = COLUMNS[columns - 1] + WIDTHS[columns - 1];
  const height = TOP + HEAD + count * ROW;
  const picture = svg("svg", { class: "km-leak-picture", viewBox: `0 0 ${width} ${height}`, width, height, role: "img", "aria-label": name });

  // the variable, and the structure that it leads to
  const chip = svg("g", { class: holder ? "km-leak-chip" : "km-leak-chip km-leak-lost" }, svg("rect", { x: 0.5, y: 0.5, width: WIDTHS[0] - 1, height: 25, rx: 12.5 }), words(13, 17, held_by));
  picture.append(chip);
  if (holder && dev.slot !== "null" && dev.slot !== "gone") picture.append(arrow(20, 26, 20, TOP - 12, dev.slot));
  if (dev.slot === "null") picture.append(words(28, 43, "NULL", "km-leak-quiet"));
  const top = TOP - 12;
  picture.append(box({ x: 0, y: top, width: WIDTHS[0], height: height - top - 1 }, dev));

  for (const one of rest) {
    const [column, row] = [depth(one), rows.get(one.path)];
    const y = TOP + HEAD + row * ROW;
    const middle = y + BOX / 2;
    const from = COLUMNS[column - 1] + WIDTHS[column - 1];
    const holds = things.find(({ path }) => path === one.parent);
    const there = ["held", "leaked"].includes(holds.state);
    const kind = there ? (holds.state === "leaked" ? "km-leak-on" : "") : "km-leak-quiet";
    if (column === 1) picture.append(words(13, middle + 4, `->${one.name}`, kind));
    else if (there) picture.append(svg("g", {}, svg("text", { x: from - 12, y: y + 16, "text-anchor": "end", class: `km-leak-text ${kind}` }, `->${one.name}`)));
    picture.append(box({ x: COLUMNS[column], y, width: WIDTHS[column], height: BOX }, one));
    picture.append(pointer(one, from, middle, COLUMNS[column] - 2));
  }
  return picture;
}
