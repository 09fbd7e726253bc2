// The bar that goes through a history: a step back, a step forward, a slider, what the step was.
// For views with the traits of views/_history.py.
import { el } from "./common.js";

/** The bar of one view; words come from the view's own section of the string table. */
export class HistoryBar {
  /**
   * @param {object} model
   * @param {(key: string) => string} say
   * @param {(step: number) => void} goto
   */
  constructor(model, say, goto) {
    this.model = model;
    const button = (sign, key, by) =>
      el(
        "button",
        { class: "km-button", type: "button", "aria-label": say(key), title: say(key), onclick: () => goto(model.get("step") + by) },
        sign,
      );
    this.back = button("◀", "back", -1);
    this.forward = button("▶", "forward", 1);
    this.slider = el("input", {
      type: "range", min: "0", class: "km-grow", "aria-label": say("history"),
      oninput: () => goto(Number(this.slider.value)),
    });
    this.told = el("div", { class: "km-told", "aria-live": "polite" });
    this.bar = el("div", { class: "km-bar" }, this.back, this.forward, this.slider);
    this.element = el("div", {}, this.bar, this.told);
  }

  describe() {
    const [steps, step] = [this.model.get("_steps"), this.model.get("step")];
    this.element.hidden = steps === 0;
    this.slider.max = String(Math.max(0, steps - 1));
    this.slider.value = String(step);
    this.slider.setAttribute("aria-valuetext", this.model.get("_step_text"));
    this.back.disabled = step <= 0;
    this.forward.disabled = step >= steps - 1;
    this.told.textContent = this.model.get("_step_text");
  }
}

/** Show a step of the history, or its nearest end. */
export function gotoStep(model, step) {
  model.set("step", Math.min(Math.max(step, 0), model.get("_steps") - 1));
  model.save_changes();
}
