// The bytes of the slab map's selected object: rows of 16, a letter and a colour for each region,
// damaged bytes framed and said so.
import { el, say } from "./common.js";

/**
 * The panel's rows from what _slab_bytes.row_state() made.
 * @param {object[]} rows
 */
function table(rows) {
  return el(
    "table",
    { class: "km-slab-dump" },
    el("tbody", {}, ...rows.map((row) => line(row))),
  );
}

function line({ kind, letter, label, at, hex, bad, letters, note, alarm }) {
  const chip = el("span", { class: `km-swatch km-region-${kind}`, "aria-hidden": "true" }, letter);
  const bytes = hex.map((byte, n) => (bad.includes(n) ? el("b", { class: "km-bad" }, byte) : byte));
  const spaced = bytes.flatMap((byte, n) => (n ? [n === 8 ? "  " : " ", byte] : [byte]));
  const said = alarm && note ? el("b", { class: "km-alarm" }, `✗ ${note}`) : note;
  return el(
    "tr",
    { class: label ? "km-region-first" : null },
    label ? el("th", { scope: "row" }, chip, ` ${label}`) : el("td", {}),
    el("td", { class: "km-slab-at" }, at),
    hex.length
      ? el("td", { class: `km-slab-hex km-tint-${kind}` }, ...spaced)
      : el("td", { class: `km-slab-words km-tint-${kind}`, colspan: kind === "tracks" ? "3" : null }, said),
    ...(hex.length
      ? [el("td", { class: "km-slab-ascii" }, letters), el("td", { class: "km-slab-note" }, said)]
      : []),
  );
}

/** The panel below the map; hidden while nothing is selected. */
export class BytesPanel {
  /**
   * @param {object} model
   * @param {() => void} close
   */
  constructor(model, close) {
    this.model = model;
    const words = (key) => say(model.get("_texts"), `slab_map.bytes.${key}`);
    this.scroll = el("div", { class: "km-scroll", tabindex: "0", role: "group", "aria-label": words("title") });
    this.element = el(
      "section",
      { class: "km-slab-bytes" },
      el(
        "div",
        { class: "km-bar" },
        el("span", { class: "km-title km-grow" }, words("title")),
        el("button", { class: "km-button", type: "button", onclick: close }, words("close")),
      ),
      this.scroll,
    );
  }

  describe() {
    const rows = this.model.get("_bytes");
    this.element.hidden = rows.length === 0;
    this.scroll.replaceChildren(table(rows));
  }
}
