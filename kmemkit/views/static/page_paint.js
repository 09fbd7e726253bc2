// How the page map is drawn: hollow free blocks with their order, solid pages with their letter,
// mixed cells filled as far as they are used, dots where a cell is too small for a letter.
import { css } from "./colors.js";
import { KIND, LETTERS, windowOn } from "./page_columns.js";
import { dotImage } from "./page_dots.js";
import { inks } from "./page_inks.js";

/** Below this many CSS pixels a cell has no room for a letter. */
const LETTER_ROOM = 9;
/** The kinds that can give a mixed cell its letter; the first of equals wins. */
const USES = [KIND.UNMOVABLE, KIND.MOVABLE, KIND.RECLAIMABLE, KIND.SLAB, KIND.PCP, KIND.RESERVED];
const LARGEST = { width: 38, height: 28 };

/** What gives a mixed cell its letter and colour: a leak, else what most of its used pages are. */
function mainUse(found) {
  if (found[KIND.LEAKED]) return KIND.LEAKED;
  const main = USES.reduce((best, kind) => (found[kind] > found[best] ? kind : best));
  return found[main] ? main : KIND.HOLE;
}

/** Draws one canvas from the columns. Lengths are device pixels unless they say CSS. */
export class Painter {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {import("./page_columns.js").Columns} columns
   */
  constructor(canvas, columns) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.columns = columns;
    /** The character drawn in each cell, in order. @type {string[]} */
    this.drawn = [];
    /** The letters drawn before each row, by row. @type {string[]} */
    this.letters = [];
    /** Whether the theme's colours changed since they were read. */
    this.stale = true;
  }

  /** Fit the window into `available` CSS pixels. */
  layout(available) {
    const { model, first, end } = this.columns;
    const asked = [model.get("start"), model.get("span"), model.get("_width")];
    this.window = windowOn(first, end, ...asked);
    const ratio = window.devicePixelRatio || 1;
    if (ratio !== this.ratio || this.stale) this.inks = inks(this.canvas, this.context, ratio);
    this.stale = false;
    this.ratio = ratio;
    const { width, rows } = this.window;
    this.digits = (end - 1).toString(16).length;
    this.font = getComputedStyle(this.canvas).getPropertyValue("--km-mono");
    this.gutter = Math.round((this.digits * 6.7 + 46) * ratio);
    const room = Math.max(0, available * ratio - this.gutter - ratio);
    const wide = Math.floor(Math.min(LARGEST.width * ratio, room / width));
    this.dots = wide < LETTER_ROOM * ratio && width > 64;
    this.cw = this.dots ? Math.max(1, wide) : Math.max(Math.ceil(LETTER_ROOM * ratio), wide);
    // Narrow cells of one page are high: the owner's mark stands below the letter.
    const least = this.window.cell > 1 ? 21 : this.narrow() ? 24 : 18;
    const high = Math.max(least * ratio, this.cw * 0.8);
    this.ch = this.dots ? this.cw : Math.round(Math.min(LARGEST.height * ratio, high));
    this.canvas.width = this.gutter + width * this.cw + Math.ceil(ratio);
    this.canvas.height = rows * this.ch + Math.ceil(ratio);
    this.canvas.style.width = `${this.canvas.width / ratio}px`;
    this.canvas.style.height = `${this.canvas.height / ratio}px`;
    this.drawn = new Array(width * rows).fill(" ");
    this.letters = [];
  }

  /** Whether a cell has no room for a letter and a mark side by side. */
  narrow() {
    return this.cw < 18 * this.ratio;
  }

  /** Draw the whole window. */
  draw() {
    const { width, rows } = this.window;
    this.context.clearRect(0, 0, this.canvas.width, this.canvas.height);
    this.cells(0, width * rows);
  }

  /** Draw what stands for the pages [start, end), which is aligned to blocks. */
  range(start, end) {
    const { cell, width, rows } = this.window;
    const low = Math.max(0, Math.floor((start - this.window.start) / cell));
    const high = Math.min(width * rows, Math.ceil((end - this.window.start) / cell));
    if (low < high) this.cells(low, high);
  }

  cells(low, high) {
    if (this.dots) this.paintDots(low, high);
    else this.paintCells(low, high);
    this.labels(low, high);
  }

  /** The pages of one cell that are on the map: [start, end), empty outside. */
  pagesOf(index) {
    const start = this.window.start + index * this.window.cell;
    const { first, end } = this.columns;
    return [Math.max(start, first), Math.min(start + this.window.cell, end)];
  }

  /** The rectangles of cells [low, high), row by row, as [x, y, width, height]. */
  *strips(low, high) {
    const { width } = this.window;
    while (low < high) {
      const row = Math.floor(low / width);
      const rows = low % width === 0 ? Math.floor((high - low) / width) : 0;
      const next = rows > 0 ? low + rows * width : Math.min(high, (row + 1) * width);
      const across = rows > 0 ? width : next - low;
      yield [this.gutter + (low % width) * this.cw, row * this.ch, across * this.cw, Math.max(1, rows) * this.ch];
      low = next;
    }
  }

  // -- cells with letters ---------------------------------------------------------------------

  paintCells(low, high) {
    const { context, columns, window: win } = this;
    for (const strip of this.strips(low, high)) context.clearRect(...strip);
    context.textAlign = "center";
    context.textBaseline = "middle";
    this.orders = [];
    for (let index = low; index < high; ) {
      const [start, end] = this.pagesOf(index);
      if (start >= end) {
        this.drawn[index++] = " ";
        continue;
      }
      const block = columns.block(start);
      if (block.head + block.size < end) {
        this.mixedCell(index, start, end);
        index++;
        continue;
      }
      const stop = Math.min(high, Math.ceil((block.head + block.size - win.start) / win.cell));
      if (block.kind === KIND.FREE) this.freeBlock(index, stop, block);
      else this.solidBlock(index, stop, block);
      index = stop;
    }
    this.borders(low, high);
    for (const order of this.orders) this.orderLabel(...order);
  }

  letterFont(share = 1, weight = 600) {
    const size = Math.min(13 * this.ratio, this.cw * 0.86, this.ch * 0.62) * share;
    return `${weight} ${Math.round(size)}px ${this.font}`;
  }

  freeBlock(low, high, block) {
    const { context, inks: { lines, tints }, ratio } = this;
    const type = this.columns.blockType(block.head) ?? 0;
    const cells = Math.max(1, Math.floor(block.size / this.window.cell));
    const digits = String(block.order);
    const headCell = Math.floor((block.head - this.window.start) / this.window.cell);
    for (let i = low; i < high; i++) {
      this.drawn[i] = digits.length <= cells ? (digits[i - headCell] ?? ".") : ".";
    }
    const line = Math.max(1, Math.round(1.5 * ratio));
    for (const [x, y, w, h] of this.strips(low, high)) {
      context.beginPath();
      context.roundRect(x + 1 + line / 2, y + 1 + line / 2, w - 1 - line, h - 1 - line, 2 * ratio);
      context.fillStyle = tints[type];
      context.fill();
      context.strokeStyle = lines[type];
      context.lineWidth = line;
      context.stroke();
      this.orders.push([digits, tints[type], x + w / 2 + 0.5, y + h / 2, w]);
    }
  }

  /** A free block's order, over the borders that may cross the block. */
  orderLabel(digits, tint, x, y, room) {
    const { context, ratio } = this;
    context.font = this.letterFont(digits.length > 1 && room < 2 * this.cw ? 0.8 : 1, 400);
    const { width } = context.measureText(digits);
    context.fillStyle = tint;
    if (room > 2 * this.cw) context.fillRect(x - width / 2 - 2 * ratio, y - 6 * ratio, width + 4 * ratio, 12 * ratio);
    context.fillStyle = css(this.inks.ink);
    context.fillText(digits, x, y + ratio);
  }

  solidBlock(low, high, block) {
    const { context, inks: { fills, quiet, hole }, ratio } = this;
    const page = this.window.cell === 1;
    const mark = page ? this.columns.mark(block) : "";
    const hollow = block.kind === KIND.HOLE;
    for (const [x, y, w, h] of this.strips(low, high)) {
      context.fillStyle = hollow ? css(hole) : fills[block.kind];
      context.fillRect(x + 1, y + 1, w - 1, h - 1);
    }
    context.fillStyle = hollow ? css(quiet) : "#fff";
    const letter = LETTERS[block.kind];
    const small = page && block.kind !== KIND.RESERVED;
    for (let i = low; i < high; i++) {
      const head = !page || this.window.start + i === block.head;
      this.drawn[i] = head || !small ? letter : letter.toLowerCase();
      const [x, y] = this.centre(i);
      const [right, down] = !head || !mark ? [0, 0] : this.narrow() ? [0, 5 * ratio] : [4.8 * ratio, 0];
      context.font = this.letterFont(down ? 0.88 : 1, head ? 700 : 400);
      context.fillText(this.drawn[i], x - right, y - down + ratio);
      if (right || down) {
        context.font = this.letterFont(0.8, 400);
        context.fillText(mark, x + right, y + down + 1.5 * ratio);
      }
    }
  }

  /** A cell of several blocks: filled as far as it is used, in the colour of the main use. */
  mixedCell(index, start, end) {
    const { context, columns, inks: { fills, tints, lines, ink, paper, hole, quiet }, ratio } = this;
    const found = columns.tally(start, end);
    const type = columns.blockType(start);
    const [x, y, w, h] = [...this.strips(index, index + 1)][0];
    const [left, top, wide, high] = [x + 1, y + 1, w - 1, h - 1];
    const main = mainUse(found);
    const used = end - start - found[KIND.FREE] - found[KIND.HOLE];
    // At least two pixels: a cell that is used at all must not look free, nor the other way round.
    const least = 2 * ratio;
    const part = Math.round((high * used) / (end - start));
    const tall = used === 0 ? 0 : used === end - start ? high : Math.min(high - least, Math.max(least, part));
    context.fillStyle = found[KIND.HOLE] ? css(hole) : type === undefined ? css(paper) : tints[type];
    context.fillRect(left, top, wide, high);
    context.fillStyle = fills[main] ?? css(hole);
    context.fillRect(left, top + high - tall, wide, tall);
    if (tall < high) {
      const line = (context.lineWidth = Math.max(1, Math.round(ratio)));
      context.strokeStyle = type === undefined ? css(quiet) : lines[type];
      context.strokeRect(left + line / 2, top + line / 2, wide - line, high - line);
    }
    this.drawn[index] = this.mixedLetter(found, end - start, main);
    // The letter stands in the larger part, so that it has one ground.
    const low = tall >= high / 2;
    context.fillStyle = low ? "#fff" : css(ink);
    context.font = this.letterFont(0.82, low ? 700 : 400);
    const middle = low ? top + high - tall / 2 : top + (high - tall) / 2;
    context.fillText(this.drawn[index], x + w / 2 + 0.5, middle);
  }

  mixedLetter(found, pages, main) {
    if (found[KIND.FREE] === pages) return ":";
    return found[main] === pages || main === KIND.LEAKED ? LETTERS[main] : LETTERS[main].toLowerCase();
  }

  centre(index) {
    const { width } = this.window;
    return [
      this.gutter + (index % width) * this.cw + this.cw / 2 + 0.5,
      Math.floor(index / width) * this.ch + this.ch / 2,
    ];
  }

  /** Dashes along the upper and left border of each pageblock. */
  borders(low, high) {
    const { context, window: win, ratio } = this;
    const thick = Math.max(1, Math.round(ratio));
    context.strokeStyle = css(this.inks.ink);
    context.lineWidth = thick;
    context.setLineDash([4 * ratio, 3 * ratio]);
    context.beginPath();
    for (const { index, size } of this.pageblocks(low, high)) {
      const [column, row] = [index % win.width, Math.floor(index / win.width)];
      const [x, y] = [this.gutter + column * this.cw, row * this.ch];
      const across = Math.min(size, win.width - column);
      if (row > 0) {
        context.moveTo(x + 1, y + thick / 2);
        context.lineTo(x + across * this.cw, y + thick / 2);
      }
      if (column > 0) {
        context.moveTo(x + thick / 2, y + 1);
        context.lineTo(x + thick / 2, y + this.ch);
      }
    }
    context.stroke();
    context.setLineDash([]);
  }

  /** The pageblocks that begin in cells [low, high), unless their borders would crowd the map. */
  *pageblocks(low, high) {
    const { start, cell } = this.window;
    for (const zone of this.columns.zones) {
      const block = 2 ** zone.blockOrder;
      if (cell > 1 && block < 8 * cell) continue;
      const from = Math.max(start + low * cell, Math.floor(zone.start / block) * block);
      const to = Math.min(start + high * cell, zone.end);
      for (let pfn = Math.ceil(from / block) * block; pfn < to; pfn += block) {
        yield { index: (pfn - start) / cell, size: block / cell, type: this.columns.blockType(Math.max(pfn, zone.start), zone) };
      }
    }
  }

  paintDots(low, high) {
    const { width } = this.window;
    const [top, bottom] = [Math.floor(low / width), Math.ceil(high / width)];
    const scaled = dotImage(this.columns, this.window, this.inks, top * width, bottom * width);
    this.context.imageSmoothingEnabled = false;
    const place = [this.gutter, top * this.ch, width * this.cw, (bottom - top) * this.ch];
    this.context.drawImage(scaled, ...place);
  }

  // -- gutter and rings -----------------------------------------------------------------------

  /** Row labels: the pfn, and the letters of the row's pageblocks. */
  labels(low, high) {
    const { context, window: { start, cell, width, rows }, ratio } = this;
    const every = 2 ** Math.max(0, Math.ceil(Math.log2((14 * ratio) / this.ch)));
    const [top, bottom] = [Math.floor(low / width), Math.ceil(high / width)];
    context.clearRect(0, top * this.ch, this.gutter, (bottom - top) * this.ch);
    context.font = `${Math.round(11 * ratio)}px ${this.font}`;
    context.textBaseline = "middle";
    for (let row = Math.ceil(top / every) * every; row < Math.min(bottom, rows); row += every) {
      const y = row * this.ch + (every > 1 ? 7 * ratio : this.ch / 2);
      context.textAlign = "left";
      context.fillStyle = css(this.inks.quiet);
      const pfn = (start + row * width * cell).toString(16).padStart(this.digits, "0");
      context.fillText(`0x${pfn}`, 0, y + ratio);
      if (this.dots) continue;
      context.textAlign = "right";
      const types = this.rowTypes(row);
      context.fillStyle = types.length === 1 ? this.inks.lines[types[0]] : css(this.inks.quiet);
      this.letters[row] = types.map((type) => "UMRHI"[type]).join("");
      context.fillText(this.letters[row], this.gutter - 5 * ratio, y + ratio);
    }
  }

  /** The migratetypes of the pageblocks that a row touches, each once, in their order. */
  rowTypes(row) {
    const { start, cell, width } = this.window;
    const types = new Set();
    for (const zone of this.columns.zones) {
      const low = Math.max(start + row * width * cell, zone.start);
      const high = Math.min(start + (row + 1) * width * cell, zone.end);
      for (let pfn = low; pfn < high; pfn += 2 ** zone.blockOrder) {
        types.add(this.columns.blockType(pfn, zone));
      }
    }
    types.delete(undefined);
    return [...types];
  }

  /** The index of the cell that a page is in, or -1. */
  cellOf(pfn) {
    const { start, cell, width, rows } = this.window;
    const index = Math.floor((pfn - start) / cell);
    return pfn >= start && index < width * rows ? index : -1;
  }

  /** The cell at a point in CSS pixels, or -1. */
  hit(x, y) {
    const { width, rows } = this.window;
    const column = Math.floor((x * this.ratio - this.gutter) / this.cw);
    const row = Math.floor((y * this.ratio) / this.ch);
    if (column < 0 || column >= width || row < 0 || row >= rows) return -1;
    const [start, end] = this.pagesOf(row * width + column);
    return start < end ? row * width + column : -1;
  }

  /** Ring the cells of pages [start, end) on another canvas of the same size. */
  ring(context, start, end, { dashed = false, heavy = 1 } = {}) {
    const { window: win, ratio } = this;
    const low = Math.max(0, Math.floor((start - win.start) / win.cell));
    const high = Math.min(win.width * win.rows, Math.ceil((end - win.start) / win.cell));
    const line = Math.max(1, Math.round(1.5 * heavy * ratio));
    for (const [x, y, w, h] of this.strips(low, Math.max(low, high))) {
      const grow = Math.max(0, (7 * ratio - w) / 2);
      const box = [x - grow, y - grow, w + 2 * grow + 1, h + 2 * grow + 1];
      context.setLineDash([]);
      context.lineWidth = line + 2 * ratio;
      context.strokeStyle = css(this.inks.paper);
      context.strokeRect(...box);
      context.setLineDash(dashed ? [4 * ratio, 3 * ratio] : []);
      context.lineWidth = line;
      context.strokeStyle = css(this.inks.ink);
      context.strokeRect(...box);
    }
  }
}
