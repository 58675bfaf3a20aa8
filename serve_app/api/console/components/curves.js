// Curves of a training, drawn by uPlot. Beside each curve its numbers are a table, for people who do not see it.
import { html, useEffect, useRef } from "../core/view.js";
import { short } from "../core/format.js";
import { theme } from "../core/theme.js";
import uPlot from "../vendor/uplot.js";

const TITLES = {
  loss: "Loss", kl: "KL divergence", reward_mean: "Mean reward", reward_std: "Spread of rewards", clip_ratio: "Clipped tokens",
  grad_norm: "Gradient norm", learning_rate: "Learning rate", token_accuracy: "Token accuracy", reward_margin: "Reward margin",
  reward_accuracy: "Pairs in the right order", valid_loss: "Validation loss", valid_accuracy: "Validation accuracy",
};
const FIRST = ["loss", "kl", "reward_mean", "token_accuracy", "reward_margin", "reward_accuracy", "valid_loss", "valid_accuracy"];
const HEIGHT = 170;

export const titleOf = (name) => TITLES[name] ?? name.replaceAll("_", " ");

/** `curves` has the points by name, as `curvesOf` returns them. */
export function Curves({ curves }) {
  const names = Object.keys(curves);
  const first = FIRST.filter((name) => names.includes(name));
  const others = names.filter((name) => !FIRST.includes(name));
  if (!names.length) return null;
  return html`
    <div class="curves">${first.map((name) => html`<${Curve} key=${name} name=${name} points=${curves[name]} />`)}</div>
    ${others.length > 0 && html`
      <details><summary>More curves</summary>
        <div class="curves">${others.map((name) => html`<${Curve} key=${name} name=${name} points=${curves[name]} />`)}</div>
      </details>`}`;
}

function Curve({ name, points }) {
  const title = titleOf(name);
  const last = points.at(-1)[1];
  return html`
    <figure class="curve">
      <figcaption class="row row-apart"><span class="label">${title}</span><span class="number">${short(last)}</span></figcaption>
      <${Plot} x=${points.map((each) => each[0])} series=${[{ title, values: points.map((each) => each[1]) }]}
        label=${`${title} by step: ${points.length} steps, from ${short(points[0][1])} to ${short(last)}`} />
      <details class="numbers"><summary>Numbers</summary>
        <table><thead><tr><th>Step</th><th class="number">${title}</th></tr></thead>
          <tbody>${points.slice(-100).map(([step, value]) => html`<tr key=${step}><td>${step}</td><td class="number">${short(value)}</td></tr>`)}</tbody></table>
      </details>
    </figure>`;
}

/** A plot of one or more series over `x`. `isTime` takes `x` as seconds since 1970; `isBars` draws bars. */
export function Plot({ x, series, label, isTime = false, isBars = false, height = HEIGHT }) {
  const place = useRef(null);
  const plot = useRef(null);
  const chosen = theme.value;
  useEffect(() => {
    const element = place.current;
    const draw = () => {
      plot.current?.destroy();
      const options = optionsOf(element, series, { isTime, height, bars: isBars && uPlot.paths.bars({ size: [0.62, 40] }) });
      plot.current = new uPlot(options, [x, ...series.map((each) => each.values)], element);
    };
    draw();
    const watch = new ResizeObserver(() => plot.current?.setSize({ width: widthOf(element), height }));
    watch.observe(element);
    const scheme = matchMedia("(prefers-color-scheme: dark)");
    scheme.addEventListener("change", draw);
    return () => {
      watch.disconnect();
      scheme.removeEventListener("change", draw);
      plot.current?.destroy();
      plot.current = null;
    };
  }, [chosen, series.length, JSON.stringify([x, series.map((each) => each.values)])]);
  return html`<div class="plot" ref=${place} role="img" aria-label=${label}></div>`;
}

const widthOf = (element) => Math.max(element.clientWidth, 120);

function optionsOf(element, series, { isTime, height, bars }) {
  const style = getComputedStyle(element);
  const colour = (name) => style.getPropertyValue(name).trim();
  const colours = [colour("--accent"), colour("--good"), colour("--ink-faint")];
  const axis = { stroke: colour("--ink-faint"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
  return {
    width: widthOf(element),
    height,
    legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false } },
    scales: { x: { time: isTime, range: bars ? padded : undefined }, y: { range: bars ? (plot, low, high) => [0, high * 1.1 || 1] : undefined } },
    axes: [
      { ...axis, size: isTime ? 44 : 28, space: 60, ...(isTime ? {} : { incrs: [1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10000] }) },
      { ...axis, size: 62, space: 34, values: (plot, ticks) => ticks.map(short) },
    ],
    series: [{}, ...series.map((each, index) => ({
      label: each.title, stroke: colours[index % 3], width: 2, points: { show: each.values.length < 2 && !bars, size: 7 },
      ...(bars && { fill: colours[index % 3], paths: bars }),
    }))],
  };
}

const HALF_DAY_S = 43_200;
function padded(plot, low, high) {
  return [low - HALF_DAY_S, high + HALF_DAY_S];
}
