// What the slab map knows: slabs, a word for each object, the lists that slabs are on, and the line
// of text for each object. The same rules as views/_slab_model.py.
import { say } from "./common.js";

/** An object's word, as _slab_model.py has it: place on a free list, which list, damage, who. */
export const RANK = 0x7fff;
export const OWN = 0x8000;
export const DAMAGED = 0x10000;
const WHO = 17;

const bytes = (view) => new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
/** A column of 32-bit words, as a copy that can be changed. */
const column = (view) => new Uint32Array(bytes(view).slice().buffer);

/** The slabs and objects of one map, shared by all its views on a page. Objects are numbered. */
export class SlabColumns {
  /** @param {object} model */
  constructor(model) {
    this.model = model;
    this.load();
  }

  /** Take whole columns from the model. */
  load() {
    const slabs = column(this.model.get("_slabs"));
    this.words = column(this.model.get("_words"));
    this.slabs = [];
    for (let n = 0, first = 0; 2 * n < slabs.length; n++) {
      this.slabs.push({ pfn: slabs[2 * n], objects: slabs[2 * n + 1], first });
      first += slabs[2 * n + 1];
    }
    this.regroup();
  }

  /** Take the lists that slabs are on from the model. */
  regroup() {
    this.groups = this.model.get("_groups");
    /** slab -> [its group, its place there] */
    this.home = [];
    this.groups.forEach((group) => group.slabs.forEach((n, place) => (this.home[n] = [group, place])));
  }

  /**
   * Put a patch (see SlabMap._fill_columns) into the words.
   * @returns {Set<number>} the slabs that look different now
   */
  patch() {
    const patch = column(this.model.get("_patch"));
    let at = 2 + 2 * patch[1];
    const dirty = new Set();
    for (let i = 0; i < patch[1]; i++) {
      const [start, length] = [patch[2 + 2 * i] / 4, patch[3 + 2 * i] / 4];
      this.words.set(patch.subarray(at, at + length), start);
      at += length;
      if (start + length > this.words.length) continue;
      for (let n = this.slabOf(start); n <= this.slabOf(start + length - 1); n++) dirty.add(n);
    }
    return dirty;
  }

  /** The slab that an object is in. */
  slabOf(at) {
    let [low, high] = [0, this.slabs.length - 1];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.slabs[middle].first <= at) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  /** How many objects of a slab are in use. */
  inuse(n) {
    const { first, objects } = this.slabs[n];
    let used = 0;
    for (let at = first; at < first + objects; at++) if (!(this.words[at] & RANK)) used++;
    return used;
  }

  /** Whether a CPU has a slab: then its objects may be on two lists. */
  owned(n) {
    return this.home[n]?.[0].kind === "cpu";
  }

  /**
   * The objects on a slab's free lists, in order: the CPU's, then the slab's own.
   * @returns {number[][]}
   */
  lists(n) {
    const { first, objects } = this.slabs[n];
    const found = [[], []];
    for (let at = first; at < first + objects; at++) {
      const word = this.words[at];
      if (word & RANK) found[word & OWN ? 1 : 0][(word & RANK) - 1] = at;
    }
    return found;
  }

  /** The object after a free one on its list, or undefined. */
  next(at) {
    const word = this.words[at];
    return word & RANK ? this.lists(this.slabOf(at))[word & OWN ? 1 : 0][word & RANK] : undefined;
  }

  /** The address of an object as text; addresses need more bits than numbers have. */
  address(at) {
    const n = this.slabOf(at);
    const { base, first, size } = this.model.get("_geometry");
    const { pfn, first: lowest } = this.slabs[n];
    const address = BigInt(base) + BigInt(pfn) * 4096n + BigInt(first + (at - lowest) * size);
    return "0x" + address.toString(16);
  }

  /** The object at an address, or -1. */
  find(address) {
    if (address === null) return -1;
    const { base, first, size } = this.model.get("_geometry");
    const offset = Number(BigInt(address) - BigInt(base));
    for (const { pfn, objects, first: lowest } of this.slabs) {
      const index = (offset - pfn * 4096 - first) / size;
      if (0 <= index && index < objects) return lowest + Math.floor(index);
    }
    return -1;
  }

  say(key, fields) {
    return say(this.model.get("_texts"), `slab_map.${key}`, fields);
  }

  /** What is known of an object, as CacheModel.line(). */
  line(at) {
    const n = this.slabOf(at);
    const { pfn, objects, first } = this.slabs[n];
    const word = this.words[at];
    const [group, place] = this.home[n];
    const where = this.say(`where.${group.kind}`, { number: group.number, place: place + 1 });
    const parts = [
      this.say("line_object", { index: at - first, last: objects - 1 }),
      this.address(at),
      this.say("line_slab", { pfn: "0x" + pfn.toString(16), where }),
      this.state(word, this.owned(n)),
    ];
    if (word & DAMAGED) parts.push(this.say("line_damaged"));
    parts.push(this.model.get("_whos")[word >>> WHO] ?? "");
    return parts.filter(Boolean).join(" · ");
  }

  state(word, owned) {
    if (!(word & RANK)) return this.say("state_used");
    return this.say(owned && !(word & OWN) ? "state_free_cpu" : "state_free", { rank: word & RANK });
  }
}
