// What every view's JavaScript uses: elements, texts from the string table, theme colours.
// _base.esm() joins this file in front of a view's own module.

/** Elements that take the keyboard; JupyterLab must leave their keys alone. */
const FOCUSABLE = new Set(["button", "input", "select", "summary", "textarea", "a"]);

/**
 * Make an element. Properties starting with "on" become listeners, the others attributes
 * (null and false leave one out). Whatever can have the focus is shielded from JupyterLab's keys.
 * @param {string} tag
 * @param {Record<string, unknown>} [props]
 * @param {...(Node|string)} children
 * @returns {HTMLElement}
 */
export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) node.setAttribute(name, String(value));
  }
  if (FOCUSABLE.has(tag) || "tabindex" in props) {
    node.setAttribute("data-lm-suppress-shortcuts", "true");
  }
  node.append(...children);
  return node;
}

/**
 * Fill a text of the string table, as Python's kmemkit.strings.text() does.
 * @param {Record<string, string>} texts the model's `_texts`
 * @param {string} key as in "page_map.free"
 * @param {Record<string, unknown>} [fields]
 */
export function say(texts, key, fields = {}) {
  if (!(key in texts)) throw new Error(`no text for ${key}`);
  return texts[key].replace(/\{(\w+)\}/g, (_, name) => String(fields[name]));
}

/** @param {number} n */
export const hex = (n) => "0x" + n.toString(16);

/** A number with thousands separators, as Python's "{:,}". @param {number} n */
export const count = (n) => String(n).replace(/\B(?=(\d{3})+$)/g, ",");

/** A number of 4 kB pages as memory, as snapshot.size_text(). @param {number} pages */
export function sizeText(pages) {
  const kb = pages * 4;
  for (const [unit, scale] of [["GiB", 1 << 20], ["MiB", 1 << 10]]) {
    if (kb >= scale && kb % scale === 0) return `${count(kb / scale)} ${unit}`;
  }
  return `${count(kb)} kB`;
}

/** An order with its size, as snapshot.order_text(). */
export function orderText(texts, order) {
  const fields = { order, pages: count(2 ** order), size: sizeText(2 ** order) };
  return say(texts, order ? "unit.order" : "unit.order0", fields);
}

/** The value of a `--km-*` colour where `node` stands. */
export function color(node, name) {
  return getComputedStyle(node).getPropertyValue(`--km-${name}`).trim();
}

/**
 * Call `redraw` whenever the theme changes. Returns what stops it.
 * @param {() => void} redraw
 */
export function onTheme(redraw) {
  const watcher = new MutationObserver(redraw);
  watcher.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-name", "class"] });
  const media = matchMedia("(prefers-color-scheme: dark)");
  media.addEventListener("change", redraw);
  return () => {
    watcher.disconnect();
    media.removeEventListener("change", redraw);
  };
}

/**
 * The simplification badge: what a small world scales. Keeps itself up to date.
 * @param {object} model
 * @returns {HTMLElement} a note, hidden while nothing is scaled
 */
export function badge(model) {
  const note = el("details", { class: "km-note" });
  const fill = () => {
    const items = model.get("_scaled");
    note.hidden = items.length === 0;
    note.replaceChildren(
      el("summary", {}, say(model.get("_texts"), "view.scaled")),
      el("ul", {}, ...items.map((item) => el("li", {}, item))),
      say(model.get("_texts"), "view.fidelity", { file: "docs/fidelity.md" }),
    );
  };
  model.on("change:_scaled", fill);
  fill();
  return note;
}
