// The Stepper's controls and its explanation. All positions are Python's: a click or a key sends
// one move, and the page shows the state that comes back.
import { el, say } from "./common.js";

/** Moves per second that the reader can choose. */
const SPEEDS = [0.5, 1, 2, 4];

/** @param {{ model: object, el: HTMLElement }} context */
function render({ model, el: root }) {
  const texts = model.get("_texts");
  const words = (key, fields) => say(texts, `stepper.${key}`, fields);
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  const send = (move, to = 0) => model.send({ do: move, to });
  /** A move the reader makes ends a run. */
  const step = (move, to) => {
    stop();
    send(move, to);
  };

  const button = (key, onclick) => {
    const props = { class: "km-button", type: "button", title: words(`${key}_hint`), onclick };
    return el("button", props, words(key));
  };
  const back = button("back", () => step("back"));
  const forward = button("forward", () => step("forward"));
  const run = button("run", () => toggleRun());
  const failing = button("failing", () => step("failing"));
  const save = button("export", () => send("export"));
  const speed = el(
    "select",
    { class: "km-field", "aria-label": words("speed") },
    ...SPEEDS.map((value) => el("option", { value }, words("per_second", { speed: value }))),
  );
  speed.value = "1";
  const slider = el("input", {
    class: "km-grow",
    type: "range",
    min: 0,
    "aria-label": words("slider"),
    "aria-keyshortcuts": "ArrowLeft ArrowRight Home End Space",
    title: words("keys"),
    oninput: () => step("seek", Number(slider.value)),
  });
  const where = el("span", { class: "km-where" });
  const whole = el("input", { type: "checkbox", onchange: () => step("whole") });

  const call = el("p", { class: "km-call", role: "status" });
  const reasons = el("ol", { class: "km-why", "aria-live": "polite" });
  const more = el("p", { class: "km-quiet" });
  const note = el("p", { class: "km-quiet", role: "status" });
  const events = el("details", {});
  const summary = el("summary", {});
  const eventLines = el("pre", { class: "km-text", tabindex: "0", role: "region", "aria-label": words("events") });
  events.append(summary, eventLines);

  const frame = el(
    "div",
    { class: "kmemkit km-stepper", role: "group", "aria-label": words("title") },
    el(
      "div",
      { class: "km-bar km-first" },
      back,
      forward,
      run,
      slider,
      where,
      speed,
      failing,
      el("label", { class: "km-check" }, whole, words("whole")),
      save,
    ),
    note,
    call,
    reasons,
    more,
    events,
  );
  root.append(frame);

  // -- running: the next move is sent when the last one has arrived -----------------------------

  let running = false;
  let timer = 0;
  const schedule = () => {
    clearTimeout(timer);
    if (running) timer = setTimeout(() => send("forward"), 1000 / Number(speed.value));
  };
  const stop = () => {
    running = false;
    clearTimeout(timer);
    labelRun();
  };
  const labelRun = () => {
    run.textContent = words(still.matches ? "to_end" : running ? "pause" : "run");
    speed.hidden = still.matches;
  };
  const toggleRun = () => {
    if (running) return stop();
    if (still.matches) return step("end");
    running = true;
    labelRun();
    if (model.get("state").at_end) send("start");
    else send("forward");
  };
  still.addEventListener("change", stop);

  const keys = { ArrowLeft: "back", ArrowRight: "forward", Home: "start", End: "end" };
  frame.addEventListener("keydown", (event) => {
    const target = /** @type {HTMLElement} */ (event.target);
    if (target === speed || target === eventLines) return;
    if (event.key in keys) step(keys[event.key]);
    else if (event.key === " " && target === slider) toggleRun();
    else return;
    event.preventDefault();
  });

  // -- showing --------------------------------------------------------------------------------

  const update = () => {
    const state = model.get("state");
    // A disabled button would drop the keyboard's focus; this one only says so.
    back.setAttribute("aria-disabled", String(state.at_start));
    forward.setAttribute("aria-disabled", String(state.at_end));
    failing.textContent = words("failing_count", { count: state.failing });
    slider.max = String(state.last);
    slider.value = String(state.index);
    slider.setAttribute("aria-valuetext", state.where);
    where.textContent = state.where;
    whole.checked = state.whole;

    const outcome = state.pending ? "?" : state.result;
    call.replaceChildren(
      el("b", {}, words("why")),
      el("code", {}, outcome ? `${state.call} \u2192 ${outcome}` : state.call),
      state.ok ? "" : el("span", { class: "km-failed" }, words("failed")),
    );
    call.hidden = !state.call;
    reasons.replaceChildren(...state.reasons.map((line) => el("li", {}, line)));
    for (const [node, line] of [[more, state.more], [note, state.note]]) {
      node.textContent = line;
      node.hidden = !line;
    }
    events.hidden = state.events.length === 0;
    summary.textContent = words("events_count", { count: state.events.length });
    eventLines.textContent = state.events.join("\n");
    if (running && state.at_end) stop();
    schedule();
  };

  const onmessage = (message) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([message.export], { type: "text/plain" }));
    link.download = "history.txt";
    link.click();
    URL.revokeObjectURL(link.href);
  };

  model.on("change:state", update);
  model.on("msg:custom", onmessage);
  labelRun();
  update();
  return () => {
    stop();
    still.removeEventListener("change", stop);
    model.off("change:state", update);
    model.off("msg:custom", onmessage);
  };
}

export default { render };
