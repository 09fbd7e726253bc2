// What the page map knows: the byte columns, which cell stands for which pages, and the line of
// text for each. The same rules as views/_page_cells.py and _page_text.py.
import { count, hex, orderText, say, sizeText } from "./common.js";

/** Kinds of pages, as snapshot.Kind. */
export const KIND = {
  TAIL: 0, FREE: 1, PCP: 2, RESERVED: 3, HOLE: 4, LEAKED: 5, UNMOVABLE: 8, MOVABLE: 9, RECLAIMABLE: 10,
  SLAB: 12,
};
/** Kind -> the letter on its pages, as palette.LETTERS. */
export const LETTERS = ["-", "", "P", "X", "-", "!", "", "", "U", "M", "R", "", "S"];
/** Kind -> name in the string table and of its colour. */
export const NAMES = [
  "hole", "free", "pcp", "reserved", "hole", "leaked", "", "", "unmovable", "movable", "reclaimable",
  "", "slab",
];
/** Migratetype -> name, as snapshot.MIGRATE_NAMES; in lower case, the name of its colour. */
export const TYPES = ["Unmovable", "Movable", "Reclaimable", "HighAtomic", "Isolate"];
/** Blocks never cross a multiple of this many pages. */
const CHUNK = 1024;
const KINDS = 16;
/** Kinds in the order in which they are told. */
export const TOLD = [
  KIND.UNMOVABLE, KIND.MOVABLE, KIND.RECLAIMABLE, KIND.SLAB, KIND.PCP, KIND.RESERVED, KIND.HOLE, KIND.LEAKED,
  KIND.FREE,
];
const TEXT_CELLS = 2048;

const bytes = (view) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
const power = (n) => 2 ** Math.ceil(Math.log2(Math.max(n, 1)));
const floor = (n, step) => Math.floor(n / step) * step;

/** Pages per cell and cells per row of a window of `span` pages. */
function shape(span, width) {
  const cells = Math.min(span, width ? Math.max(TEXT_CELLS, width * width) : TEXT_CELLS);
  const columns = width ?? (cells <= 64 ? 16 : cells <= 256 ? 32 : 64);
  return [span / cells, Math.min(columns, cells)];
}

/** The span of the window that shows all of [first, end). */
export function wholeSpan(first, end, width) {
  const span = power(end - first);
  const [cell, columns] = shape(span, width);
  return floor(first, cell * columns) + span >= end ? span : span * 2;
}

/**
 * The window nearest to what was asked for; rows begin at multiples of their own length.
 * @returns {{start: number, span: number, cell: number, width: number, rows: number}}
 */
export function windowOn(first, end, start, span, width) {
  span = Math.min(power(span), wholeSpan(first, end, width));
  const [cell, columns] = shape(span, width);
  const row = cell * columns;
  const lowest = floor(first, row);
  const highest = Math.max(lowest, Math.ceil((end - span) / row) * row);
  start = Math.min(Math.max(floor(start, row), lowest), highest);
  const rows = Math.ceil((Math.min(start + span, end) - start) / row);
  return { start, span, cell, width: columns, rows };
}

/** The pages and owners of one map, shared by all its views on a page. */
export class Columns {
  /** @param {object} model */
  constructor(model) {
    this.model = model;
    this.load();
  }

  /** Take whole columns from the model. */
  load() {
    [this.first, this.end] = this.model.get("_extent");
    this.pages = bytes(this.model.get("_pages")).slice();
    this.owners = bytes(this.model.get("_owners")).slice();
    this.zones = this.model.get("_zones");
    this.types = bytes(this.model.get("_blocks")).slice();
    this.lowest = floor(this.first, CHUNK);
    this.chunks = Math.max(0, Math.ceil((this.end - this.lowest) / CHUNK));
    this.perChunk = new Int32Array(this.chunks * KINDS);
    this.totals = new Int32Array(KINDS);
    for (let chunk = 0; chunk < this.chunks; chunk++) this.recount(chunk);
  }

  /**
   * Put a patch (see _Columns.patch in page_map.py) into the columns.
   * @returns {[number, number][]} the pfn ranges that may look different now
   */
  patch() {
    const view = this.model.get("_patch");
    const patch = bytes(view);
    const word = (n) => view.getUint32(n * 4, true);
    const counts = [word(1), word(2)];
    let at = (3 + 2 * (counts[0] + counts[1])) * 4;
    let header = 3;
    const dirty = new Set();
    for (const [n, column] of [[counts[0], this.pages], [counts[1], this.owners]]) {
      for (let i = 0; i < n; i++, header += 2) {
        const [start, length] = [word(header), word(header + 1)];
        column.set(patch.subarray(at, at + length), start);
        at += length;
        const last = this.first + start + length - 1 - this.lowest;
        for (let c = floor(this.first + start - this.lowest, CHUNK); c <= last; c += CHUNK) {
          dirty.add(c / CHUNK);
        }
      }
    }
    return [...dirty].map((chunk) => {
      this.recount(chunk);
      const start = this.lowest + chunk * CHUNK;
      return [start, start + CHUNK];
    });
  }

  /**
   * Take the pageblock types from the model.
   * @returns {[number, number][] | null} the pfn ranges that look different now, null for all
   */
  retype() {
    const before = this.types;
    this.zones = this.model.get("_zones");
    this.types = bytes(this.model.get("_blocks")).slice();
    if (before.length !== this.types.length) return null;
    const ranges = [];
    for (const zone of this.zones) {
      const size = 2 ** zone.blockOrder;
      const lowest = floor(zone.start, size);
      for (let n = 0; lowest + n * size < zone.end; n++) {
        if (before[zone.blocks + n] === this.types[zone.blocks + n]) continue;
        const start = floor(lowest + n * size, CHUNK);
        ranges.push([start, start + Math.max(size, CHUNK)]);
      }
    }
    return ranges;
  }

  recount(chunk) {
    const start = this.lowest + chunk * CHUNK;
    const found = this.perChunk.subarray(chunk * KINDS, (chunk + 1) * KINDS);
    for (let kind = 0; kind < KINDS; kind++) this.totals[kind] -= found[kind];
    found.fill(0);
    this.walk(Math.max(start, this.first), Math.min(start + CHUNK, this.end), found);
    for (let kind = 0; kind < KINDS; kind++) this.totals[kind] += found[kind];
  }

  /** Add the pages of [start, end), in which every block begins, to `found` by kind. */
  walk(start, end, found) {
    const { pages, first } = this;
    for (let pfn = start; pfn < end; ) {
      const byte = pages[pfn - first];
      const size = byte < 16 ? 1 : 1 << (byte & 15);
      found[byte < 16 ? KIND.HOLE : byte >> 4] += size;
      pfn += size;
    }
  }

  /** Pages of [start, end) by kind; no block covers them all. */
  tally(start, end) {
    const found = new Int32Array(KINDS);
    if (end - start < CHUNK) {
      this.walk(start, end, found);
      return found;
    }
    for (let pfn = floor(start, CHUNK); pfn < end; pfn += CHUNK) {
      const at = ((pfn - this.lowest) / CHUNK) * KINDS;
      for (let kind = 0; kind < KINDS; kind++) found[kind] += this.perChunk[at + kind];
    }
    return found;
  }

  /**
   * The block that holds a page; a page that none holds is a hole by itself.
   * @returns {{head: number, kind: number, order: number, size: number}}
   */
  block(pfn) {
    for (let order = 0; order <= 10; order++) {
      const head = floor(pfn, 2 ** order);
      if (head < this.first) break;
      const byte = this.pages[head - this.first];
      if (byte >= 16 && (order === 0 || (byte & 15) >= order)) {
        return { head, kind: byte >> 4, order: byte & 15, size: 2 ** (byte & 15) };
      }
    }
    return { head: pfn, kind: KIND.HOLE, order: 0, size: 1 };
  }

  /** The zone that spans a page, or undefined. */
  zone(pfn) {
    return this.zones.find((zone) => zone.start <= pfn && pfn < zone.end);
  }

  /** The migratetype of the pageblock that holds a page, or undefined. */
  blockType(pfn, zone = this.zone(pfn)) {
    if (!zone) return undefined;
    const size = 2 ** zone.blockOrder;
    const number = Math.floor(pfn / size) - Math.floor(zone.start / size);
    const type = this.types[zone.blocks + number];
    return type < TYPES.length ? type : undefined;
  }

  /** The pfn of a block's buddy, or undefined: at the highest order, or outside the zone. */
  buddy(block, zone = this.zone(block.head)) {
    if (!zone || block.kind === KIND.RESERVED || block.kind === KIND.HOLE) return undefined;
    const up = (block.head / block.size) % 2 === 0;
    const buddy = up ? block.head + block.size : block.head - block.size;
    const inside = zone.start <= buddy && buddy < zone.end;
    return inside && block.order < zone.maxOrder ? buddy : undefined;
  }

  /** Kind name and text fields that describe a block. */
  state(prefix, block, order) {
    const texts = this.model.get("_texts");
    const asked = block.kind >= KIND.UNMOVABLE && block.kind !== KIND.SLAB;
    const name = asked ? "allocated" : NAMES[block.kind];
    const type = say(texts, `page_map.${NAMES[block.kind]}`);
    return say(texts, `page_map.${prefix}_${name}`, { type, order });
  }

  /** All that is known of one page, as page_line() in _page_text.py. */
  pageLine(pfn) {
    const texts = this.model.get("_texts");
    const [block, zone] = [this.block(pfn), this.zone(pfn)];
    const state = this.state("line", block, orderText(texts, block.order));
    const name = zone?.name ?? say(texts, "page_map.no_zone");
    const parts = [say(texts, "page_map.line_head", { pfn: hex(pfn), zone: name, state })];
    if (block.head !== pfn) {
      const nth = pfn - block.head + 1;
      parts.push(say(texts, "page_map.line_tail", { nth, head: hex(block.head) }));
    }
    const owner = this.owner(block);
    if (owner) parts.push(say(texts, "page_map.line_owner", { owner }));
    const type = this.blockType(pfn, zone);
    if (type !== undefined) parts.push(say(texts, "page_map.line_block", { type: TYPES[type] }));
    if (zone && block.kind !== KIND.RESERVED && block.kind !== KIND.HOLE) {
      parts.push(this.buddyText(block, zone));
    }
    return parts.join(" · ");
  }

  buddyText(block, zone) {
    const texts = this.model.get("_texts");
    const pfn = this.buddy(block, zone);
    if (pfn === undefined) {
      const key = block.order >= zone.maxOrder ? "line_highest" : "line_no_buddy";
      return say(texts, `page_map.${key}`, { order: block.order });
    }
    const buddy = this.block(pfn);
    const state = this.state("buddy", buddy, buddy.order);
    return say(texts, "page_map.line_buddy", { pfn: hex(pfn), state });
  }

  /** The name of the owner of an allocated block, "" if it has none. */
  owner(block) {
    const names = this.model.get("_owner_names");
    return block.kind >= KIND.UNMOVABLE ? names[this.owners[block.head - this.first]] : "";
  }

  /** The character that marks the owner of an allocated block, "" if it has none. */
  mark(block) {
    const marks = this.model.get("_marks");
    return block.kind >= KIND.UNMOVABLE ? marks[this.owners[block.head - this.first]] : "";
  }

  /** The line for a cell of the pages [start, end), as cell_line() in _page_text.py. */
  cellLine(start, end) {
    const block = this.block(start);
    if (block.head + block.size >= end) return this.pageLine(start);
    const pages = end - start;
    const found = this.tally(start, end);
    const texts = this.model.get("_texts");
    const parts = TOLD.filter((kind) => found[kind]).map((kind) => this.part(kind, found[kind]));
    return say(texts, "page_map.line_cell", {
      first: hex(start), last: hex(end - 1), pages: count(pages), size: sizeText(pages), parts: parts.join(", "),
    });
  }

  /** "Movable 12" */
  part(kind, pages) {
    const texts = this.model.get("_texts");
    const name = say(texts, `page_map.${NAMES[kind]}`);
    return say(texts, "page_map.part", { name, pages: count(pages) });
  }
}
