// The slab map widget: a canvas with a cursor, a legend, a live line, the selected object's bytes.
import { badge, el, onTheme, say } from "./common.js";
import { HistoryBar, gotoStep } from "./history_bar.js";
import { BytesPanel } from "./slab_bytes.js";
import { DAMAGED, OWN, RANK, SlabColumns } from "./slab_columns.js";
import { SlabPainter } from "./slab_paint.js";

/** One map on the page; several can show the same model. */
class SlabMapView {
  constructor(model, columns, parent) {
    this.model = model;
    this.columns = columns;
    this.texts = model.get("_texts");
    const selected = columns.find(model.get("selected"));
    this.cursor = selected < 0 ? this.ends()[0] : selected;
    this.hover = -1;
    this.dirty = null; // slabs to draw, or null for everything
    this.build(parent);
    this.painter = new SlabPainter(this.canvas, columns);
    this.resize = new ResizeObserver(() => {
      if (this.frame.clientWidth !== this.room) this.redraw();
    });
    this.resize.observe(this.frame);
    this.stopTheme = onTheme(() => {
      this.painter.stale = true;
      this.redraw();
    });
    this.root.kmemkit = this.debug();
  }

  say(key, fields) {
    return say(this.texts, `slab_map.${key}`, fields);
  }

  // -- elements -------------------------------------------------------------------------------

  build(parent) {
    const { model } = this;
    this.headings = el("div", { class: "km-head" });
    this.choice = el("select", {
      class: "km-field",
      onchange: () => {
        model.set("cache", this.choice.value);
        model.save_changes();
      },
    });
    this.smaller = this.button("−", "zoom_out", () => this.zoom(-1));
    this.larger = this.button("+", "zoom_in", () => this.zoom(1));
    const bar = el(
      "div",
      { class: "km-bar km-slab-bar" },
      el("label", { class: "km-labelled" }, this.say("choose"), this.choice),
      this.smaller,
      this.larger,
    );
    this.legend = el("ul", { class: "km-legend" });
    this.canvas = el("canvas", { "aria-hidden": "true" });
    this.overlay = el("canvas", { "aria-hidden": "true", class: "km-overlay" });
    this.window = el("div", { class: "km-slab-window" }, this.canvas, this.overlay);
    this.rest = el("div", {});
    this.frame = el(
      "div",
      {
        class: "km-slab-map", tabindex: "0", role: "application",
        onkeydown: (event) => this.key(event),
        onpointermove: (event) => this.point(this.under(event)),
        onpointerleave: () => this.point(-1),
        onclick: (event) => this.click(event),
        onfocus: () => this.mark(),
        onblur: () => this.mark(),
        onscroll: () => this.scrolled(),
      },
      this.window,
      this.rest,
    );
    this.line = el("div", { class: "km-line", "aria-live": "polite", title: this.say("hint") });
    this.broken = el("ul", { class: "km-slab-broken" });
    this.bytes = new BytesPanel(model, () => this.select(-1));
    this.past = new HistoryBar(model, (key) => this.say(key), (step) => gotoStep(model, step));
    this.text = el("pre", { class: "km-text", tabindex: "0", "aria-label": this.say("as_text") });
    this.details = el(
      "details",
      { ontoggle: () => this.askText() },
      el("summary", {}, this.say("as_text")),
      this.text,
    );
    this.root = el(
      "div",
      { class: "kmemkit km-slab" },
      this.headings, bar, this.legend, this.frame, this.line, this.broken, this.bytes.element,
      this.past.element, badge(model), this.details,
    );
    parent.append(this.root);
  }

  button(sign, key, action) {
    const name = this.say(key);
    return el("button", { class: "km-button", type: "button", "aria-label": name, title: name, onclick: action }, sign);
  }

  // -- drawing --------------------------------------------------------------------------------

  /** Draw everything, or some slabs, with the next frame of the browser. */
  redraw(slabs = null) {
    this.dirty = slabs && this.dirty ? new Set([...this.dirty, ...slabs]) : null;
    this.waiting ??= requestAnimationFrame(() => this.frameDue());
  }

  frameDue() {
    this.waiting = null;
    if (!this.frame.clientWidth) {
      // Not on the page yet, or JupyterLab hides it while it changes the theme. To observe again
      // brings a call as soon as there is room, also if it is as much as before.
      this.room = 0;
      this.resize.unobserve(this.frame);
      this.resize.observe(this.frame);
      return;
    }
    if (this.dirty === null) this.drawAll();
    else if (this.dirty.size) this.painter.draw(this.frame.scrollTop, this.dirty);
    this.dirty = new Set();
    this.describe();
    this.mark();
    this.root.dataset.drawn = String(Number(this.root.dataset.drawn ?? 0) + 1);
    if (this.details.open) this.askText();
  }

  /** Draw what has come into sight. */
  scrolled() {
    this.scrolling ??= requestAnimationFrame(() => {
      this.scrolling = null;
      if (!this.painter.ratio) return;
      this.painter.draw(this.frame.scrollTop);
      this.mark();
    });
  }

  drawAll() {
    const { painter } = this;
    this.room = this.frame.clientWidth;
    painter.layout(this.room);
    this.rest.style.height = `${Math.max(0, painter.height - painter.view)}px`;
    if (this.frame.clientWidth !== this.room) {
      // A scroll bar came or went.
      this.room = this.frame.clientWidth;
      painter.layout(this.room);
      this.rest.style.height = `${Math.max(0, painter.height - painter.view)}px`;
    }
    painter.fit();
    for (const name of ["width", "height"]) {
      this.overlay[name] = this.canvas[name];
      this.overlay.style[name] = this.canvas.style[name];
    }
    this.window.style.height = `${painter.view}px`;
    painter.draw(this.frame.scrollTop);
  }

  /** Everything on the page that is not the picture. */
  describe() {
    const [title, ...rest] = this.model.get("_headings");
    this.headings.replaceChildren(
      el("span", { class: "km-title" }, title),
      ...rest.map((words) => el("span", { class: "km-quiet" }, words)),
    );
    this.frame.setAttribute("aria-label", this.say("label", { title }));
    const caches = this.model.get("_caches");
    if ([...this.choice.options].map((option) => option.value).join() !== caches.join()) {
      this.choice.replaceChildren(...caches.map((name) => el("option", { value: name }, name)));
    }
    this.choice.value = this.model.get("cache");
    this.smaller.disabled = !this.painter.shown;
    this.larger.disabled = this.painter.numbered;
    this.describeLegend();
    const broken = Object.entries(this.model.get("_broken"));
    this.broken.replaceChildren(
      ...broken.map(([n, what]) => el("li", {}, el("b", { class: "km-alarm" }, `✗ 0x${this.columns.slabs[n].pfn.toString(16)} `), this.say("broken", { what }))),
    );
    this.broken.hidden = !broken.length;
    this.bytes.describe();
    this.past.describe();
  }

  describeLegend() {
    const { words, slabs } = this.columns;
    let bits = 0;
    for (let at = 0; at < words.length; at++) bits |= words[at];
    const any = (bit) => bits & bit;
    const items = [["used", "legend_used", ""], ["free", "legend_free", "3"]];
    if (any(OWN)) items.push(["own", "legend_own", "1"]);
    if (any(DAMAGED)) items.push(["damaged", "legend_damaged", "!"]);
    if (this.painter.numbered && any(RANK)) items.push(["arrow", "legend_arrow", "→"]);
    this.legend.hidden = !slabs.length;
    this.legend.replaceChildren(
      ...items.map(([name, key, letter]) =>
        el("li", {}, el("span", { class: `km-swatch km-slab-${name}`, "aria-hidden": "true" }, letter), this.say(key)),
      ),
    );
  }

  /** Rings around the selected object and the cursor, the arrows of the slab looked at, the line. */
  mark() {
    const { painter, columns } = this;
    if (!painter.ratio) return;
    const context = this.overlay.getContext("2d");
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, this.overlay.width, this.overlay.height);
    const { ratio } = painter;
    context.setTransform(ratio, 0, 0, ratio, 0, -Math.round(this.frame.scrollTop * ratio));
    if (!columns.words.length) return this.tell();
    this.cursor = Math.min(this.cursor, columns.words.length - 1);
    const selected = columns.find(this.model.get("selected"));
    const focused = document.activeElement === this.frame;
    const at = this.hover >= 0 ? this.hover : focused ? this.cursor : -1;
    const active = at >= 0 ? at : selected;
    if (active >= 0 && painter.numbered) painter.arrows(context, columns.slabOf(active), painter.inks.ink, 1.4, active);
    if (selected >= 0) painter.ring(context, selected, { heavy: 1.7 });
    if (at >= 0) painter.ring(context, at);
    this.tell();
  }

  /** Say what is under the pointer, else under the cursor. */
  tell() {
    const at = this.hover >= 0 ? this.hover : this.cursor;
    const known = at < this.columns.words.length && this.columns.home[this.columns.slabOf(at)];
    const words = known ? this.columns.line(at) : "";
    if (this.line.textContent !== words) this.line.textContent = words;
  }

  // -- pointer and keys -----------------------------------------------------------------------

  under(event) {
    const box = this.canvas.getBoundingClientRect();
    if (!this.painter.bands || event.clientY > box.bottom) return -1;
    return this.painter.hit(event.clientX - box.left, event.clientY - box.top + this.frame.scrollTop);
  }

  point(at) {
    if (at === this.hover) return;
    this.hover = at;
    this.mark();
  }

  click(event) {
    const at = this.under(event);
    if (at < 0) return;
    this.cursor = at;
    this.select(at);
  }

  /** Select an object; the one that is selected already, or -1, unselects. */
  select(at) {
    const address = at < 0 ? null : this.columns.address(at);
    this.model.set("selected", this.model.get("selected") === address ? null : address);
    this.model.save_changes();
    this.mark();
  }

  key(event) {
    const { columns, painter, cursor } = this;
    if (!columns.words.length) return;
    const { first, objects } = columns.slabs[columns.slabOf(cursor)];
    const last = columns.words.length - 1;
    const acts = {
      ArrowLeft: () => this.move(this.along(-1)),
      ArrowRight: () => this.move(this.along(1)),
      ArrowUp: () => this.move(painter.beside(cursor, -1)),
      ArrowDown: () => this.move(painter.beside(cursor, 1)),
      Home: () => this.move(event.ctrlKey ? this.ends()[0] : first),
      End: () => this.move(event.ctrlKey ? this.ends()[1] : first + objects - 1),
      n: () => this.move(columns.next(cursor) ?? cursor),
      Enter: () => this.select(cursor),
      " ": () => this.select(cursor),
      Escape: () => this.select(-1),
      "+": () => this.zoom(1),
      "=": () => this.zoom(1),
      "-": () => this.zoom(-1),
    };
    const key = event.key === "N" ? "n" : event.key;
    if (!Object.hasOwn(acts, key)) return;
    acts[key]();
    event.preventDefault();
    event.stopPropagation();
    this.cursor = Math.min(this.cursor, last);
  }

  /** The object before or after the cursor, in the order in which slabs are shown. */
  along(way) {
    const { columns, cursor } = this;
    const n = columns.slabOf(cursor);
    const { first, objects } = columns.slabs[n];
    const to = cursor + way;
    if (to >= first && to < first + objects) return to;
    const order = columns.groups.flatMap((group) => group.slabs);
    const next = columns.slabs[order[order.indexOf(n) + way]];
    if (!next) return cursor;
    return way > 0 ? next.first : next.first + next.objects - 1;
  }

  /** The first and the last object shown. */
  ends() {
    const order = this.columns.groups.flatMap((group) => group.slabs);
    if (!order.length) return [0, 0];
    const [one, other] = [order[0], order[order.length - 1]].map((n) => this.columns.slabs[n]);
    return [one.first, other.first + other.objects - 1];
  }

  move(at) {
    this.hover = -1;
    this.cursor = at;
    const { frame, painter } = this;
    const [, y, , h] = painter.place(at);
    if (y < frame.scrollTop + 24) frame.scrollTop = Math.max(0, y - 46);
    else if (y + h > frame.scrollTop + painter.view) frame.scrollTop = y + h - painter.view + 4;
    this.mark();
  }

  zoom(by) {
    const size = Math.min(3, Math.max(0, this.painter.shown + by));
    if (size === this.painter.shown) return;
    this.painter.size = size;
    this.redraw();
    requestAnimationFrame(() => this.move(this.cursor));
  }

  /** Bring the cursor, and with it the line, to an object that was selected elsewhere. */
  follow() {
    const at = this.columns.find(this.model.get("selected"));
    if (at < 0 || !this.painter.bands) return;
    this.cursor = at;
    if (document.activeElement !== this.frame) this.move(at);
  }

  // -- text twin ------------------------------------------------------------------------------

  askText() {
    if (!this.details.open || this.asked) return;
    this.asked = true;
    this.model.send({ want: "text" });
  }

  heard(message) {
    if (!("text" in message)) return;
    this.asked = false;
    this.text.textContent = message.text;
  }

  /** What the browser tests read: what was drawn, not what should have been. */
  debug() {
    return {
      cells: () => [...this.painter.drawn].map(([at, said]) => [this.columns.address(at), said]),
      size: () => this.painter.shown,
      count: () => this.columns.words.length,
      /** The CSS place and size of an object's cell, relative to the canvas. */
      place: (address) => {
        const [x, y, w, h] = this.painter.place(this.columns.find(address));
        return [x, y - this.frame.scrollTop, w, h];
      },
      /** Milliseconds that a full redraw takes. */
      timeRedraw: () => {
        const before = performance.now();
        this.drawAll();
        this.painter.context.getImageData(0, 0, 1, 1); // waits until the canvas is really drawn
        return performance.now() - before;
      },
    };
  }

  remove() {
    cancelAnimationFrame(this.waiting);
    cancelAnimationFrame(this.scrolling);
    this.resize.disconnect();
    this.stopTheme();
  }
}

export default () => {
  /** @type {SlabColumns} */
  let columns;
  const views = new Set();
  const redraw = (slabs) => views.forEach((view) => view.redraw(slabs));
  return {
    initialize({ model }) {
      columns = new SlabColumns(model);
      model.on("change:_patch", () => redraw(columns.patch()));
      model.on("change:_slabs change:_words change:_geometry", () => {
        columns.load();
        redraw();
      });
      model.on("change:_groups change:_broken", () => {
        columns.regroup();
        redraw();
      });
      model.on(
        ["selected", "cache", "step", "_steps", "_step_text", "_caches", "_headings", "_whos", "_bytes"].map((name) => `change:${name}`).join(" "),
        () => redraw(new Set()),
      );
      model.on("change:selected", () => views.forEach((view) => view.follow()));
      model.on("msg:custom", (message) => views.forEach((view) => view.heard(message)));
    },
    render({ model, el: parent }) {
      const view = new SlabMapView(model, columns, parent);
      views.add(view);
      return () => {
        views.delete(view);
        view.remove();
      };
    },
  };
};
