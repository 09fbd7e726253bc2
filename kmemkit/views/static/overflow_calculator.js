// The overflow calculator: numbers that are typed, the product digit by digit with its lost part
// marked, the beginning of the array as it was meant and as it was given, what each call answers.
// All of it is Python's to say: a press sends one message, and the page shows what comes back.
import { el, say } from "./common.js";

/** @param {{ model: object, el: HTMLElement }} context */
function render({ model, el: root }) {
  const texts = model.get("_texts");
  const words = (key, fields) => say(texts, `overflow.${key}`, fields);
  const tell = (what, values = {}) => model.send({ do: what, ...values });
  // Radio buttons of one name exclude each other on the whole page, and each view loads this module
  // for itself: it cannot count them.
  const number = Math.random().toString(36).slice(2);

  const button = (key, onclick) => el("button", { class: "km-button", type: "button", onclick }, words(key));
  const field = (key, control) => el("label", { class: "km-labelled" }, words(key), control);

  // -- what is typed and chosen -------------------------------------------------------------------

  const typed = (name) => {
    const input = el("input", {
      class: "km-field km-ovf-number",
      type: "text",
      inputmode: "text",
      autocomplete: "off",
      spellcheck: "false",
      title: words("field_hint"),
      onchange: () => tell(name, { value: input.value }),
      onkeydown: ({ key }) => key === "Enter" && tell(name, { value: input.value }),
    });
    return input;
  };
  const inputs = { n: typed("n"), size: typed("size"), head: typed("head") };
  const widths = [32, 64].map((bits) =>
    el("input", { type: "radio", name: `ovf-bits-${number}`, value: bits, onchange: () => tell("bits", { value: bits }) }),
  );
  const bits = el(
    "fieldset",
    { class: "km-ovf-bits" },
    el("legend", { class: "km-hidden" }, words("bits")),
    el("span", { "aria-hidden": "true" }, words("bits")),
    ...widths.map((input) => el("label", { class: "km-check" }, input, words("bits_value", { bits: input.value }))),
  );
  const preset = el("select", {
    class: "km-field",
    onchange: () => preset.value && tell("preset", { name: preset.value }),
  });
  const task = el("p", { class: "km-ovf-task" });
  const note = el("p", { class: "km-quiet" }, words("bits_note"));
  const message = el("p", { class: "km-message", role: "status" });
  const ask = el("div", { class: "km-ask", role: "group", "aria-label": words("ask") });
  const shown = el("div", { class: "km-ovf-shown" });

  root.append(
    el(
      "div",
      { class: "kmemkit km-ovf", role: "group", "aria-label": words("title") },
      el(
        "div",
        { class: "km-head" },
        el("span", { class: "km-title" }, words("title")),
        el("span", { class: "km-quiet" }, words("subtitle")),
      ),
      el(
        "div",
        { class: "km-bar" },
        field("preset", preset),
        bits,
      ),
      el("div", { class: "km-bar" }, field("n", inputs.n), field("size", inputs.size), field("head", inputs.head)),
      message,
      task,
      note,
      ask,
      shown,
    ),
  );

  // -- what comes out -----------------------------------------------------------------------------

  const digits = ([lost, kept]) =>
    el(
      "dd",
      {},
      el(
        "code",
        {},
        ...(lost ? [el("span", { class: "km-hidden" }, `${words("lost_part")} `), el("del", {}, lost), " "] : []),
        el("ins", {}, kept),
      ),
    );
  const cellNode = ([sign, mark]) => el("span", { class: `km-ovf-cell km-ovf-${mark}` }, sign);
  const rowNode = (key, cells, rest = "") => [
    el("span", { class: "km-ovf-label" }, words(key)),
    el("span", { class: "km-ovf-cells" }, ...cells.map(cellNode), rest ? el("span", { class: "km-quiet" }, rest) : ""),
  ];
  const legendNode = ([sign, label]) => el("li", {}, el("code", {}, sign), label);
  const answerNode = ({ call, result, short }) =>
    el(
      "tr",
      { class: short ? "km-ovf-bad" : null },
      el("th", { scope: "row" }, el("code", {}, call)),
      el("td", {}, short ? el("span", { "aria-hidden": "true" }, "\u26a0 ") : "", result),
    );
  const SIGNS = { all: ["\u2713", "right"], short: ["\u2717", "wrong"], silent: ["\u2013", "open"], loud: ["\u2013", "open"] };
  const fillShown = (state) => {
    shown.hidden = !state.shown;
    if (!state.shown) return shown.replaceChildren();
    const { kind, verdict, need, asked, asked_label, hex, binary, lost, unit, thought, given, rest, legend, answers } = state.shown;
    const [sign, name] = SIGNS[kind];
    shown.replaceChildren(
      el("p", { class: `km-verdict km-${name}`, role: "status" }, el("span", { "aria-hidden": "true" }, `${sign} `), verdict),
      el(
        "dl",
        { class: "km-ovf-product" },
        el("dt", {}, words("need")),
        el("dd", {}, el("code", {}, need)),
        el("dt", {}, words("hex")),
        digits(hex),
        el("dt", {}, words("binary")),
        digits(binary),
        el("dt", {}, asked_label),
        el("dd", {}, el("code", {}, asked)),
      ),
      el("p", {}, lost),
      el("p", { class: "km-ovf-head" }, words("rows"), el("span", { class: "km-quiet" }, ` ${unit}`)),
      el(
        "div",
        { class: "km-ovf-rows", tabindex: "0", role: "region", "aria-label": words("rows") },
        ...rowNode("you_think", thought, rest),
        ...rowNode("you_have", given),
      ),
      el("ul", { class: "km-legend" }, ...legend.map(legendNode)),
      el(
        "table",
        { class: "km-ovf-answers" },
        el("caption", {}, words("answers")),
        el("thead", {}, el("tr", {}, el("th", { scope: "col" }, words("call")), el("th", { scope: "col" }, words("answer")))),
        el("tbody", {}, ...answers.map(answerNode)),
      ),
    );
  };

  // -- the questions ------------------------------------------------------------------------------

  let said = {};
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
  const choice = (key) => ([value, label]) =>
    el(
      "label",
      { class: "km-check" },
      el("input", { type: "radio", name: `ovf-${key}-${number}`, value, onchange: () => (said[key] = value) }),
      label,
    );
  const questionNode = ({ key, ask: asked, options, verdict }, open) =>
    el(
      "fieldset",
      {},
      el("legend", {}, asked),
      ...(open ? options.map(choice(key)) : []),
      ...(verdict ? [verdictNode(verdict)] : []),
    );
  const score = el("span", { class: "km-quiet" });
  const freePlay = el("input", { type: "checkbox", onchange: () => tell("free_play", { on: freePlay.checked }) });
  const freePlayLabel = el("span", {});

  let drawn = "";
  const fillQuiz = ({ quiz, asking, task: sizes }) => {
    ask.hidden = !quiz;
    if (!quiz) return;
    score.textContent = quiz.score;
    freePlay.checked = quiz.free_play;
    freePlayLabel.textContent = words(quiz.unlocked ? "free_play" : "free_play_locked");
    const wanted = JSON.stringify([asking, sizes, quiz.questions]);
    if (wanted === drawn) return;
    drawn = wanted;
    const inside = ask.contains(document.activeElement);
    said = {};
    const next = button("next", () => tell("next"));
    const commit = button("commit", () => tell("commit", { answers: said }));
    const open = asking ? [commit, button("unknown", () => tell("unknown"))] : [];
    const questions = asking || quiz.answered ? quiz.questions : [];
    ask.replaceChildren(
      ...questions.map((question) => questionNode(question, asking)),
      el("div", { class: "km-bar" }, ...open, next, score, el("label", { class: "km-check" }, freePlay, freePlayLabel)),
      ...(asking ? [el("p", { class: "km-quiet" }, words("hidden"))] : []),
    );
    if (inside) (asking ? ask.querySelector("input") : next).focus({ preventScroll: true });
  };

  // -- showing ------------------------------------------------------------------------------------

  const update = () => {
    const state = model.get("state");
    for (const [name, value] of state.fields) {
      const input = inputs[name];
      // What is being typed is left alone, unless the number was changed by other means.
      if (input.dataset.sent !== value || document.activeElement !== input) input.value = value;
      input.dataset.sent = value;
    }
    for (const input of widths) input.checked = Number(input.value) === state.bits;
    if (!preset.childElementCount) {
      const none = el("option", { value: "" }, words("preset_none"));
      preset.append(none, ...state.presets.map(([name, label]) => el("option", { value: name }, label)));
    }
    preset.value = state.preset;
    task.textContent = state.task;
    note.hidden = state.bits !== 32;
    message.textContent = state.message;
    message.hidden = !state.message;
    fillQuiz(state);
    fillShown(state);
  };

  model.on("change:state", update);
  update();
  return () => model.off("change:state", update);
}

export default { render };
