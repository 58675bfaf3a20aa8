// Numbers, times and sizes as people read them. All follow the language of the browser.

const whole = new Intl.NumberFormat();
const time = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });
const ago = new Intl.RelativeTimeFormat(undefined, { numeric: "auto" });
const STEPS = [[60, "second"], [60, "minute"], [24, "hour"], [30, "day"], [12, "month"], [Infinity, "year"]];

export const count = (value) => whole.format(value);
export const dateTime = (text) => time.format(new Date(text));

/** Returns how long ago a time was, such as `3 minutes ago`. */
export function timeAgo(text) {
  let amount = (Date.parse(text) - Date.now()) / 1000;
  for (const [size, unit] of STEPS) {
    if (Math.abs(amount) < size) return ago.format(Math.round(amount), unit);
    amount /= size;
  }
  return dateTime(text);
}

/** Returns a number with few digits: `0.0786`, `12.7`, `1.2e-5`. */
export function short(value) {
  if (value === null || value === undefined || !Number.isFinite(value)) return "–";
  if (Number.isInteger(value) && Math.abs(value) < 1e6) return whole.format(value);
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(2).replace("e+", "e");
  return value.toLocaleString(undefined, { maximumSignificantDigits: 4 });
}

export function seconds(value) {
  if (value < 60) return `${value.toLocaleString(undefined, { maximumFractionDigits: value < 10 ? 2 : 1 })} s`;
  const minutes = Math.floor(value / 60);
  return minutes < 60 ? `${minutes} min ${Math.round(value % 60)} s` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

export function bytes(value) {
  for (const unit of ["B", "KiB", "MiB", "GiB"]) {
    if (value < 1024 || unit === "GiB") return `${value.toLocaleString(undefined, { maximumFractionDigits: value < 10 ? 1 : 0 })} ${unit}`;
    value /= 1024;
  }
  return "";
}
