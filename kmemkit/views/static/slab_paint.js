// How the slab map is drawn: slabs as rectangles of cells, flowing in lines under the title of their
// list; solid cells in use, hollow ones free with their place on the free list, arrows in its order.
import { css, mix, rgb } from "./colors.js";
import { color } from "./common.js";
import { DAMAGED, OWN, RANK } from "./slab_columns.js";

/** CSS pixels of a cell at each size; the largest has room for numbers, arrows and labels. */
const CELLS = [3, 6, 12, 34];
const NUMBERS = CELLS.length - 1;
/** At most so many CSS pixels of the map are seen at once; the rest is scrolled to. */
const VIEW = 430;
const [TITLE, LABEL, LANE, HIGH, NARROWEST] = [24, 104, 32, 24, 22];
/** Most arrows drawn where a slab takes several lines. */
const HOPS = 24;

/** Draws the visible part of one map. Lengths are CSS pixels: the context is scaled. */
export class SlabPainter {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {import("./slab_columns.js").SlabColumns} columns
   */
  constructor(canvas, columns) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.columns = columns;
    this.size = null; // a place in CELLS; null: the largest that suits what is there
    this.stale = true;
    /** What was drawn in each cell that has room for it. @type {Map<number, string>} */
    this.drawn = new Map();
  }

  readInks() {
    const paper = rgb(color(this.canvas, "paper"));
    const ink = rgb(color(this.canvas, "ink"), css(paper));
    const slab = rgb(color(this.canvas, "slab"));
    const dark = paper[0] + paper[1] + paper[2] < 384;
    const line = dark ? mix(slab, [255, 255, 255], 0.3) : slab;
    const leaked = rgb(color(this.canvas, "leaked"));
    this.inks = {
      paper: css(paper), ink: css(ink), slab: css(slab), line: css(line), leaked: css(leaked),
      alarm: css(dark ? mix(leaked, [255, 255, 255], 0.45) : leaked),
      tint: css(mix(paper, slab, dark ? 0.22 : 0.1)),
      quiet: css(mix(paper, ink, 0.72)),
      faint: css(mix(paper, line, 0.5)),
    };
    this.mono = getComputedStyle(this.canvas).getPropertyValue("--km-mono");
    this.sans = getComputedStyle(this.canvas).fontFamily;
    this.stale = false;
  }

  // -- layout -----------------------------------------------------------------------------------

  /** Place every slab in `room` CSS pixels of width. */
  layout(room) {
    this.room = room;
    if (this.size === null) {
      this.shown = NUMBERS;
      // Numbers are worth some scrolling.
      while (this.shown > 0 && this.arrange() > VIEW * (this.numbered ? 2 : 1)) this.shown--;
    } else {
      this.shown = this.size;
    }
    this.height = this.arrange();
  }

  get numbered() {
    return this.shown === NUMBERS;
  }

  /** Columns and lines of a slab of so many objects. */
  shape(objects) {
    const across = this.numbered ? Math.floor((this.room - LABEL - 2) / this.cw) : Math.ceil(Math.sqrt(2 * objects));
    const columns = Math.max(1, Math.min(objects, across));
    return [columns, Math.ceil(objects / columns)];
  }

  /** Fill `bands`, `left` and `top`; return the height. */
  arrange() {
    const { slabs, groups } = this.columns;
    const most = slabs.reduce((most, { objects }) => Math.max(most, objects), 1);
    this.cw = CELLS[this.shown];
    this.ch = this.numbered ? HIGH : this.cw;
    if (this.numbered) this.cw = Math.max(NARROWEST, Math.min(this.cw, Math.floor((this.room - LABEL - 2) / most)));
    const label = this.numbered ? LABEL : 0;
    const [gapX, gapY] = this.numbered ? [18, 7] : [Math.max(4, this.cw), Math.max(4, this.cw)];
    this.left = new Float64Array(slabs.length);
    this.top = new Float64Array(slabs.length);
    /** Titles and lines of slabs, from top to bottom. */
    this.bands = [];
    let y = 0;
    for (const group of groups) {
      if (y) y += 6;
      this.bands.push({ y, high: TITLE, title: group.title, slabs: [] });
      y += TITLE;
      let [x, band] = [0, null];
      for (const n of group.slabs) {
        const [columns, lines] = this.shape(slabs[n].objects);
        const lane = this.lane(lines);
        const [wide, high] = [label + columns * this.cw, lane + lines * this.ch + 2];
        if (!band || x + wide > this.room) {
          if (band) y += band.high + gapY;
          band = { y, high, title: "", slabs: [] };
          this.bands.push(band);
          x = 0;
        }
        band.slabs.push(n);
        band.high = Math.max(band.high, high);
        this.left[n] = x + label;
        this.top[n] = y + lane;
        x += wide + gapX;
      }
      if (band) y += band.high + gapY;
    }
    return Math.max(y, 10);
  }

  /** Room above a slab for its arrows: only where it is one line. */
  lane(lines) {
    return !this.numbered ? 0 : lines === 1 ? LANE : 5;
  }

  /** The height that is seen at once. */
  get view() {
    return Math.min(this.height, VIEW);
  }

  /** Fit the canvas to what is seen. */
  fit() {
    const ratio = window.devicePixelRatio || 1;
    this.ratio = ratio;
    this.canvas.width = Math.round(this.room * ratio);
    this.canvas.height = Math.round(this.view * ratio);
    this.canvas.style.width = `${this.room}px`;
    this.canvas.style.height = `${this.view}px`;
  }

  /** The place of an object's cell on the whole map: [x, y, width, height]. */
  place(at) {
    const n = this.columns.slabOf(at);
    const { first, objects } = this.columns.slabs[n];
    const [columns] = this.shape(objects);
    const index = at - first;
    return [this.left[n] + (index % columns) * this.cw, this.top[n] + Math.floor(index / columns) * this.ch, this.cw, this.ch];
  }

  /** The object at a point of the whole map, or -1. */
  hit(x, y) {
    const band = this.bands.find((one) => one.y <= y && y < one.y + one.high);
    for (const n of band?.slabs ?? []) {
      const { first, objects } = this.columns.slabs[n];
      const [columns, lines] = this.shape(objects);
      const [column, line] = [Math.floor((x - this.left[n]) / this.cw), Math.floor((y - this.top[n]) / this.ch)];
      const index = line * columns + column;
      if (column >= 0 && column < columns && line >= 0 && line < lines && index < objects) return first + index;
    }
    return -1;
  }

  /** The object above or below another one: in its slab, else in the nearest slab that way. */
  beside(at, way) {
    const n = this.columns.slabOf(at);
    const { first, objects } = this.columns.slabs[n];
    const [columns, lines] = this.shape(objects);
    const index = at - first + way * columns;
    const line = Math.floor((at - first) / columns) + way;
    if (line >= 0 && line < lines) return first + Math.min(index, objects - 1);
    let band = this.bands.findIndex((one) => one.slabs.includes(n)) + way;
    while (this.bands[band] && !this.bands[band].slabs.length) band += way;
    if (!this.bands[band]) return at;
    const [x] = this.place(at);
    const far = (m) => Math.max(this.left[m] - x, x - this.left[m] - (this.shape(this.columns.slabs[m].objects)[0] - 1) * this.cw, 0);
    const to = this.bands[band].slabs.reduce((best, m) => (far(m) < far(best) ? m : best));
    const slab = this.columns.slabs[to];
    const [across, down] = this.shape(slab.objects);
    const column = Math.min(across - 1, Math.max(0, Math.round((x - this.left[to]) / this.cw)));
    return slab.first + Math.min(slab.objects - 1, (way > 0 ? 0 : down - 1) * across + column);
  }

  // -- drawing ----------------------------------------------------------------------------------

  /** Draw what is seen with the map scrolled by `scroll`; only some slabs, if they are given. */
  draw(scroll, only = null) {
    if (this.stale) this.readInks();
    const { context, ratio } = this;
    context.setTransform(ratio, 0, 0, ratio, 0, -Math.round(scroll * ratio));
    if (!only) {
      context.clearRect(0, scroll, this.room, this.view);
      this.drawn.clear();
    }
    for (const band of this.bands) {
      if (band.y + band.high < scroll || band.y > scroll + this.view) continue;
      if (band.title && !only) this.title(band);
      for (const n of band.slabs) {
        if (only && !only.has(n)) continue;
        if (only) this.wipe(n);
        this.slab(n);
      }
    }
  }

  title({ y, title }) {
    const { context } = this;
    context.font = `600 12px ${this.sans}`;
    context.fillStyle = this.inks.quiet;
    context.textAlign = "left";
    context.textBaseline = "middle";
    context.fillText(title, 0, y + TITLE / 2);
  }

  wipe(n) {
    const [columns, lines] = this.shape(this.columns.slabs[n].objects);
    const lane = this.lane(lines);
    const label = this.numbered ? LABEL : 0;
    this.context.clearRect(this.left[n] - label, this.top[n] - lane, label + columns * this.cw + 1, lane + lines * this.ch + 1);
  }

  slab(n) {
    if (this.numbered) {
      this.label(n);
      this.cells(n);
      if (this.lane(this.shape(this.columns.slabs[n].objects)[1]) === LANE) this.arrows(this.context, n, this.inks.faint, 1);
    } else {
      this.dots(n);
    }
  }

  /** The slab's pfn, and how many of its objects are in use. */
  label(n) {
    const { context, columns } = this;
    const { pfn, objects } = columns.slabs[n];
    const [x, y] = [this.left[n] - LABEL, this.top[n]];
    context.textAlign = "left";
    context.textBaseline = "middle";
    context.fillStyle = this.inks.ink;
    context.font = `12px ${this.mono}`;
    context.fillText("0x" + pfn.toString(16), x, y + 5);
    const broken = columns.model.get("_broken")[n];
    context.font = `11px ${this.sans}`;
    context.fillStyle = broken ? this.inks.alarm : this.inks.quiet;
    context.fillText(columns.say("slab_use", { inuse: columns.inuse(n), objects }), x, y + 19);
  }

  cells(n) {
    const { context, columns, inks } = this;
    const { first, objects } = columns.slabs[n];
    context.textAlign = "center";
    context.textBaseline = "middle";
    for (let at = first; at < first + objects; at++) {
      const word = columns.words[at];
      const [x, y, w, h] = this.place(at);
      const [rank, damaged] = [word & RANK, word & DAMAGED];
      const box = [x + 1.5, y + 1.5, w - 3, h - 3, 2.5];
      context.beginPath();
      context.roundRect(...box);
      context.fillStyle = rank ? inks.tint : damaged ? inks.leaked : inks.slab;
      context.fill();
      context.strokeStyle = damaged ? inks.alarm : rank ? inks.line : inks.slab;
      context.lineWidth = damaged ? 2 : 1.3;
      context.setLineDash(word & OWN ? [3, 2.5] : []);
      context.stroke();
      const said = (rank ? String(rank) : "") + (damaged ? "!" : "");
      this.drawn.set(at, said || "#");
      if (!said) continue;
      context.fillStyle = rank ? inks.ink : "#fff";
      context.font = `${damaged ? 700 : 400} ${said.length > 2 && w < 30 ? 10 : 12}px ${this.mono}`;
      context.fillText(said, x + w / 2, y + h / 2 + 0.5);
    }
    context.setLineDash([]);
  }

  /** Cells without room for a number: filled where in use. */
  dots(n) {
    const { context, columns, inks, cw } = this;
    const { first, objects } = columns.slabs[n];
    const [across] = this.shape(objects);
    const [left, top] = [this.left[n], this.top[n]];
    const gap = cw > 3 ? 1 : 0;
    const paths = { [inks.slab]: new Path2D(), [inks.tint]: new Path2D(), [inks.alarm]: new Path2D() };
    const outline = new Path2D();
    for (let index = 0; index < objects; index++) {
      const word = columns.words[first + index];
      const [x, y] = [left + (index % across) * cw, top + Math.floor(index / across) * cw];
      const fill = word & DAMAGED ? inks.alarm : word & RANK ? inks.tint : inks.slab;
      paths[fill].rect(x, y, cw - gap, cw - gap);
      if (cw > 6 && word & RANK) outline.rect(x + 0.5, y + 0.5, cw - 2, cw - 2);
    }
    for (const [fill, path] of Object.entries(paths)) {
      context.fillStyle = fill;
      context.fill(path);
    }
    context.strokeStyle = inks.line;
    context.lineWidth = 1;
    context.stroke(outline);
  }

  // -- arrows and rings -------------------------------------------------------------------------

  /** Arrows along a slab's free lists; in a slab of several lines, the next ones from `from` on. */
  arrows(context, n, ink, width, from = -1) {
    const { columns } = this;
    const flat = this.shape(columns.slabs[n].objects)[1] === 1;
    context.strokeStyle = context.fillStyle = ink;
    context.lineWidth = width;
    for (const list of columns.lists(n)) {
      if (!list.length) continue;
      const start = flat ? 0 : Math.max(0, list.indexOf(from));
      const shown = flat ? list : list.slice(start, start + HOPS + 1);
      if (flat) this.head(context, list[0]);
      for (let i = 1; i < shown.length; i++) {
        if (shown[i - 1] === undefined || shown[i] === undefined) continue;
        if (flat) this.arc(context, shown[i - 1], shown[i]);
        else this.hop(context, shown[i - 1], shown[i], ink, width);
      }
      if (flat) this.tail(context, list[list.length - 1], columns.model.get("_broken")[n]);
    }
  }

  /** From above into the first object: the list begins here. */
  head(context, at) {
    const [x, y, w] = this.place(at);
    const to = x + w / 2 - 4;
    context.beginPath();
    context.moveTo(to, y - LANE + 4);
    context.lineTo(to, y - 2);
    context.stroke();
    context.beginPath();
    context.arc(to, y - LANE + 5, 2, 0, 7);
    context.fill();
    this.point(context, to, y, Math.PI / 2);
  }

  /** A bar above the last object: its pointer is NULL; a cross where it leads astray. */
  tail(context, at, broken) {
    if (at === undefined) return;
    const [x, y, w] = this.place(at);
    const [from, end] = [x + w / 2 + 4, y - 9];
    context.beginPath();
    context.moveTo(from, y);
    context.lineTo(from, end);
    if (broken) {
      context.moveTo(from - 3.5, end - 7);
      context.lineTo(from + 3.5, end);
      context.moveTo(from + 3.5, end - 7);
      context.lineTo(from - 3.5, end);
    } else {
      context.moveTo(from - 4, end);
      context.lineTo(from + 4, end);
    }
    context.stroke();
  }

  arc(context, one, other) {
    const [x1, y1, w] = this.place(one);
    const [x2, y2] = this.place(other);
    const [from, to] = [x1 + w / 2 + 4, x2 + w / 2 - 4];
    // The longer the higher, so that arrows can be told apart.
    const high = 6 + (LANE - 11) * Math.sqrt(Math.abs(to - from) / Math.max(1, this.room - LABEL));
    context.beginPath();
    context.moveTo(from, y1);
    context.bezierCurveTo(from, y1 - high * 1.33, to, y2 - high * 1.33, to, y2 - 2);
    context.stroke();
    this.point(context, to, y2, Math.PI / 2);
  }

  /** A straight arrow between cells, lifted from what lies under it. */
  hop(context, one, other, ink, width) {
    const middle = (at) => {
      const [x, y, w, h] = this.place(at);
      return [x + w / 2, y + h / 2];
    };
    const [[x1, y1], [x2, y2]] = [middle(one), middle(other)];
    const angle = Math.atan2(y2 - y1, x2 - x1);
    const inset = 11;
    const [fromX, fromY] = [x1 + inset * Math.cos(angle), y1 + inset * Math.sin(angle)];
    const [toX, toY] = [x2 - inset * Math.cos(angle), y2 - inset * Math.sin(angle)];
    for (const [stroke, wide] of [[this.inks.paper, width + 2.5], [ink, width]]) {
      context.strokeStyle = stroke;
      context.lineWidth = wide;
      context.beginPath();
      context.moveTo(fromX, fromY);
      context.lineTo(toX, toY);
      context.stroke();
    }
    this.point(context, toX, toY, angle);
  }

  /** An arrow's point at (x, y). */
  point(context, x, y, angle) {
    context.beginPath();
    context.moveTo(x, y);
    for (const side of [-2.65, 2.65]) context.lineTo(x + 6 * Math.cos(angle + side), y + 6 * Math.sin(angle + side));
    context.closePath();
    context.fill();
  }

  /** A ring around an object. */
  ring(context, at, { heavy = 1 } = {}) {
    const [x, y, w, h] = this.place(at);
    const grow = Math.max(0, (8 - w) / 2);
    const box = [x - grow + 0.5, y - grow + 0.5, w + 2 * grow - 1, h + 2 * grow - 1, 3];
    for (const [ink, wide] of [[this.inks.paper, 1.5 * heavy + 2], [this.inks.ink, 1.5 * heavy]]) {
      context.beginPath();
      context.roundRect(...box);
      context.strokeStyle = ink;
      context.lineWidth = wide;
      context.stroke();
    }
  }
}
