// The GFP panel: the masks as text and as bits, the flags by question, and what they ask for. What
// a mask means is Python's to say: a click or a key sends one message, and the page shows the state
// that comes back.
import { el, say } from "./common.js";

/** @param {{ model: object, el: HTMLElement }} context */
function render({ model, el: root }) {
  const texts = model.get("_texts");
  const words = (key, fields) => say(texts, `gfp_panel.${key}`, fields);
  const tell = (what, values = {}) => model.send({ do: what, ...values });

  const button = (key, onclick) => el("button", { class: "km-button", type: "button", onclick }, words(key));
  const field = (key, control) => el("label", { class: "km-labelled" }, words(key), control);
  const chooser = (what) => {
    const select = el("select", { class: "km-field", onchange: () => tell(what, { value: select.value }) });
    return select;
  };
  const check = (key, what) => {
    const box = el("input", { type: "checkbox", onchange: () => tell(what, { on: box.checked }) });
    return [box, el("label", { class: "km-check" }, box, words(key))];
  };

  const release = chooser("release");
  const arch = chooser("arch");
  const order = chooser("order");
  const [atomic, atomicLabel] = check("atomic", "atomic");
  const [compare, compareLabel] = check("compare", "compare");
  const masks = el("div", { class: "km-gfp-masks" });
  const differences = el("p", { class: "km-gfp-apart", role: "status" });
  const notes = el("ul", { class: "km-note" });
  const line = el("div", { class: "km-line" });
  const ask = el("div", { class: "km-ask", role: "group", "aria-label": words("ask.title") });
  const message = el("p", { class: "km-message", role: "status" });
  const sections = el("div", { class: "km-gfp-sections" });

  root.append(
    el(
      "div",
      { class: "kmemkit km-gfp", role: "group", "aria-label": words("title") },
      el(
        "div",
        { class: "km-head" },
        el("span", { class: "km-title" }, words("title")),
        el("span", { class: "km-quiet" }, words("subtitle")),
      ),
      el(
        "div",
        { class: "km-bar" },
        field("release", release),
        field("arch", arch),
        field("order", order),
        atomicLabel,
        compareLabel,
      ),
      masks,
      differences,
      line,
      notes,
      ask,
      message,
      sections,
    ),
  );

  // -- the bits -----------------------------------------------------------------------------------

  /** The bit that the line under the masks tells of, null for none. */
  let cursor = null;
  const fillLine = () => {
    const bit = model.get("state").bits.find(({ place }) => place === cursor);
    line.textContent = bit ? bit.says : words("bits_hint");
  };
  const pointAt = (place) => {
    cursor = place;
    fillLine();
  };

  /** Let the arrow keys move along a row of controls that is one tab stop. */
  const rove = (box, back, forth) => {
    const stops = () => [...box.querySelectorAll("[data-place]")];
    const stopAt = (node) => stops().forEach((one) => one.setAttribute("tabindex", one === node ? "0" : "-1"));
    box.addEventListener("keydown", (event) => {
      const all = stops();
      const at = all.indexOf(document.activeElement);
      const to = { [back]: at - 1, [forth]: at + 1, Home: 0, End: all.length - 1 }[event.key];
      if (to === undefined || at < 0) return;
      event.preventDefault();
      all[Math.max(0, Math.min(all.length - 1, to))].focus();
    });
    box.addEventListener("focusin", (event) => {
      if (!event.target.dataset.place) return;
      stopAt(event.target);
      pointAt(Number(event.target.dataset.place));
    });
    box.addEventListener("focusout", () => pointAt(null));
    stopAt(stops()[0]);
  };
  const pointing = (place) => ({ onpointerenter: () => pointAt(place), onpointerleave: () => pointAt(null) });

  /** One mask: its field, what the kernel prints for it, and its bits over its hex digits. */
  const maskBlock = (which, bits, { label }) => {
    const read = () => typed.value !== typed.dataset.sent && tell("type", { which, typed: typed.value });
    const typed = el("input", {
      class: "km-field km-gfp-typed",
      type: "text",
      spellcheck: "false",
      autocomplete: "off",
      "aria-label": words("typed", { mask: label }),
      onchange: read,
      onkeydown: (event) => event.key === "Enter" && read(),
    });
    const pick = el("select", {
      class: "km-field",
      "aria-label": words("pick", { mask: label }),
      onchange: () => pick.value && tell("pick", { which, name: pick.value }),
    });
    const strip = el("div", { class: "km-gfp-strip", role: "group", "aria-label": words("bits", { mask: label }) });
    for (let top = bits.length - 1; top > 0; top -= 4) {
      const nibble = [top, top - 1, top - 2, top - 3].map((place) =>
        el("button", {
          type: "button",
          class: "km-gfp-bit",
          role: "checkbox",
          tabindex: "-1",
          "data-place": place,
          onclick: () => tell("toggle", { which, place }),
          ...pointing(place),
        }),
      );
      const digit = el("span", { class: "km-gfp-digit", "aria-hidden": "true" });
      strip.append(el("div", { class: "km-gfp-nibble" }, el("div", {}, ...nibble), digit));
    }
    rove(strip, "ArrowLeft", "ArrowRight");
    const prints = el("code", { class: "km-gfp-prints" });
    const says = el("span", { class: "km-gfp-says", role: "status" });
    const error = el("p", { class: "km-message", role: "status" });
    const head = el("div", { class: "km-bar" }, el("b", { class: "km-gfp-label" }, label), typed, pick);
    const block = el("div", { class: "km-gfp-mask" }, head, error, el("div", { class: "km-gfp-shown" }, strip, el("div", {}, prints, says)));
    block.parts = { typed, pick, strip, prints, says, error };
    return block;
  };

  /** One section: the flags that answer its question on the left, what they do on the right. */
  const sectionBlock = ({ key, title }, bits, labels) => {
    const flags = bits
      .filter(({ name, section }) => section === key && name)
      .map(({ place, name, hex: value }) =>
        el(
          "li",
          pointing(place),
          ...labels.map((label, which) => {
            const box = el("input", {
              type: "checkbox",
              "data-place": place,
              "data-which": which,
              tabindex: "-1",
              "aria-label": labels.length > 1 ? `${label}: ${name} ${value}` : `${name} ${value}`,
              onchange: () => tell("toggle", { which, place }),
            });
            return box;
          }),
          el("span", { class: "km-gfp-name" }, name),
          el("span", { class: "km-quiet" }, value),
        ),
      );
    const list = el("ul", { class: "km-gfp-flags", "aria-label": words("flag_list", { section: title }) }, ...flags);
    if (flags.length) rove(list, "ArrowUp", "ArrowDown");
    const table = el("table", { class: "km-gfp-rows", "aria-label": title });
    // Each column of boxes is told apart by the last letter of its mask's label.
    const letters = labels.map((label) => el("span", {}, label.slice(-1)));
    const columns = labels.length > 1 ? [el("div", { class: "km-gfp-letters", "aria-hidden": "true" }, ...letters)] : [];
    const name = el("p", { class: "km-gfp-title", "aria-hidden": "true" }, title);
    const body = el("div", { class: "km-gfp-body" }, el("div", {}, ...columns, list), table);
    const block = el("div", { class: "km-gfp-section", role: "group", "aria-label": title }, name, body);
    block.parts = { list, table };
    return block;
  };

  // -- what the masks do --------------------------------------------------------------------------

  const SIGNS = { "\u2713": "km-gfp-in", "\u2013": "km-gfp-out" };
  const kinds = {
    text: ({ lines }) => lines.map((text) => el("div", {}, text)),
    code: ({ lines }) => lines.map((text) => el("code", {}, text)),
    illegal: ({ lines }) => lines.map((text) => el("div", { class: "km-gfp-illegal" }, text)),
    elsewhere: ({ lines }) => lines.map((text) => el("div", { class: "km-gfp-elsewhere" }, text)),
    chain: ({ lines }) =>
      lines.flatMap((text, at) => [at ? " \u2192 " : "", el("span", { class: "km-gfp-zone" }, text)]),
    signs: ({ lines }) => [
      el("ul", { class: "km-gfp-signs" }, ...lines.map((text) => el("li", { class: SIGNS[text[0]] }, text))),
    ],
    type: ({ lines: [name, what], number }) => [
      el("span", { class: `km-swatch ${["km-unmovable", "km-movable", "km-reclaimable", "km-highatomic"][number]}` }, name[0]),
      ` ${name.slice(2)}; ${what}`,
    ],
    share: ({ lines: [text], number }) => [
      el("span", { class: "km-gfp-gauge", "aria-hidden": "true" }, el("span", { style: `width: ${number}%` })),
      text,
    ],
  };
  const rowNode = ({ label, differs, cells }) =>
    el(
      "tr",
      { class: differs ? "km-gfp-differs" : null },
      el(
        "th",
        { scope: "row" },
        differs ? el("span", { title: words("differs") }, `${words("unlike")} `) : "",
        label,
      ),
      ...(differs || cells.length === 1 ? cells : [cells[0]]).map((cell) =>
        el("td", { colspan: differs || cells.length === 1 ? null : 2 }, ...kinds[cell.kind](cell)),
      ),
    );
  const tableRows = (rows, labels) => {
    if (!rows.length) return [];
    const cells = labels.map((label) => el("th", { scope: "col" }, label));
    const head = el("thead", {}, el("tr", {}, el("td", {}), ...cells));
    const apart = rows.some(({ differs }) => differs);
    return [...(apart ? [head] : []), el("tbody", {}, ...rows.map(rowNode))];
  };

  // -- the questions ------------------------------------------------------------------------------

  let answers = {};
  const VERDICTS = { true: ["\u2713", "right"], false: ["\u2717", "wrong"], null: ["?", "open"] };
  const verdictNode = ({ right, sentence, idea, why }) => {
    const [sign, name] = VERDICTS[right];
    return el(
      "div",
      { class: `km-verdict km-${name}` },
      el("p", { class: "km-outcome" }, el("span", { "aria-hidden": "true" }, sign), ` ${sentence}`),
      ...(idea ? [el("p", {}, el("b", {}, idea), ` ${why}`)] : []),
    );
  };
  const questionNode = ({ key, ask: asked, options, verdict }, open) => {
    const choices = options.map(([value, label]) =>
      el(
        "label",
        { class: "km-check" },
        el("input", {
          type: "radio",
          name: `gfp-${key}-${own}`,
          value,
          onchange: () => (answers[key] = value),
        }),
        label,
      ),
    );
    return el(
      "fieldset",
      {},
      el("legend", {}, asked),
      ...(open ? choices : []),
      ...(verdict ? [verdictNode(verdict)] : []),
    );
  };
  const score = el("span", { class: "km-quiet" });
  const freePlay = el("input", {
    type: "checkbox",
    onchange: () => tell("free_play", { on: freePlay.checked }),
  });
  const freePlayLabel = el("span", {});
  // Each view loads this module for itself, so counting would give two views one name
  const own = crypto.getRandomValues(new Uint32Array(2)).join("-");

  const fillQuiz = ({ quiz, asking }) => {
    ask.hidden = !quiz;
    message.textContent = quiz?.message ?? "";
    message.hidden = !message.textContent;
    if (!quiz) return;
    const inside = ask.contains(document.activeElement);
    answers = {};
    const commit = button("commit", () => tell("commit", { answers }));
    const next = button("next", () => tell("next"));
    score.textContent = quiz.score;
    freePlay.checked = quiz.free_play;
    freePlayLabel.textContent = words(quiz.unlocked ? "free_play" : "free_play_locked");
    const shown = asking || quiz.answered ? quiz.questions : [];
    const play = el("label", { class: "km-check" }, freePlay, freePlayLabel);
    ask.replaceChildren(
      ...shown.map((question) => questionNode(question, asking)),
      el("div", { class: "km-bar" }, ...(asking ? [commit, button("unknown", () => tell("unknown"))] : []), next, score, play),
      ...(asking ? [el("p", { class: "km-quiet" }, words("hidden"))] : []),
    );
    if (inside && document.activeElement !== freePlay) {
      (asking ? ask.querySelector("input") : next).focus({ preventScroll: true });
    }
  };

  // -- showing ------------------------------------------------------------------------------------

  /** Renew a select's options where they changed, and choose one. */
  const choose = (select, pairs, value) => {
    const wanted = pairs.map((pair) => pair.join("\t")).join("\n");
    if (select.dataset.options !== wanted) {
      select.dataset.options = wanted;
      select.replaceChildren(...pairs.map(([key, label]) => el("option", { value: key }, label)));
    }
    select.value = String(value);
  };

  /** Build anew what depends on which bits and how many masks there are; keep the keyboard's place. */
  let built = "";
  const build = (state) => {
    const shape = JSON.stringify([state.compare, state.bits.map(({ place, name }) => [place, name])]);
    if (shape === built) return;
    built = shape;
    const labels = state.masks.map(({ label }) => label);
    masks.replaceChildren(...state.masks.map((mask, which) => maskBlock(which, state.bits, mask)));
    sections.replaceChildren(...state.sections.map((section) => sectionBlock(section, state.bits, labels)));
  };

  const fillMask = (block, state, which) => {
    const { typed, pick, strip, prints, says, error } = block.parts;
    const mask = state.masks[which];
    // What is being typed is left alone, unless the mask was changed by other means.
    if (typed.dataset.sent !== mask.typed || document.activeElement !== typed) typed.value = mask.typed;
    typed.dataset.sent = mask.typed;
    typed.setAttribute("aria-invalid", String(Boolean(mask.error)));
    choose(pick, [["", words("pick_none")], ...state.composites.map((name) => [name, name])], mask.composite);
    prints.textContent = mask.prints;
    says.textContent = mask.summary;
    error.textContent = mask.error;
    error.hidden = !mask.error;
    for (const node of strip.querySelectorAll("[data-place]")) {
      const bit = state.bits[Number(node.dataset.place)];
      const on = bit.on[which];
      node.textContent = on ? "1" : "0";
      node.setAttribute("aria-checked", String(on));
      node.setAttribute("aria-label", bit.name ? `${bit.name} ${bit.hex}` : bit.says);
      node.classList.toggle("km-gfp-unlike", bit.on.length > 1 && bit.on[0] !== bit.on[1]);
      node.classList.toggle("km-gfp-nameless", !bit.name);
    }
    const digits = strip.querySelectorAll(".km-gfp-digit");
    const hex = mask.hex.slice(2).padStart(digits.length, "0");
    digits.forEach((node, at) => (node.textContent = hex[at]));
  };

  const fillSection = (block, section, state) => {
    const { list, table } = block.parts;
    for (const box of list.querySelectorAll("input")) {
      box.checked = state.bits[Number(box.dataset.place)].on[Number(box.dataset.which)];
    }
    for (const item of list.children) {
      const { on } = state.bits[Number(item.firstChild.dataset.place)];
      item.classList.toggle("km-gfp-on", on.some(Boolean));
      item.classList.toggle("km-gfp-unlike", on.length > 1 && on[0] !== on[1]);
    }
    table.hidden = !section.rows.length;
    table.replaceChildren(...tableRows(section.rows, state.masks.map(({ label }) => label)));
  };

  const update = () => {
    const state = model.get("state");
    const same = (names) => names.map((name) => [name, name]);
    choose(release, same(state.releases), state.release);
    choose(arch, same(state.archs), state.arch);
    choose(order, state.orders.map((label, value) => [value, label]), state.order);
    atomic.checked = state.atomic;
    compare.checked = state.compare;
    build(state);
    [...masks.children].forEach((block, which) => fillMask(block, state, which));
    [...sections.children].forEach((block, at) => fillSection(block, state.sections[at], state));
    differences.textContent = state.differences;
    differences.hidden = !state.differences;
    notes.replaceChildren(...state.notes.map((note) => el("li", {}, note)));
    notes.hidden = !state.notes.length;
    sections.classList.toggle("km-gfp-bare", state.asking);
    fillQuiz(state);
    fillLine();
  };

  model.on("change:state", update);
  update();
  return () => model.off("change:state", update);
}

export default { render };
