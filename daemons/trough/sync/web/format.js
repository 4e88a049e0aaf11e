// Figures and times as people read them.

const plain = new Intl.NumberFormat('en');
const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB'];

export const number = value => plain.format(value ?? 0);

export function bytes(value) {
  if (value === null || value === undefined) return '–';
  let unit = 0;
  let left = Number(value);
  while (left >= 1024 && unit < UNITS.length - 1) { left /= 1024; unit += 1; }
  return `${unit === 0 ? left : left.toFixed(left < 10 ? 2 : left < 100 ? 1 : 0)} ${UNITS[unit]}`;
}

export const percent = part => `${(100 * part).toFixed(1)} %`;

/** `1 copy`, `2 copies`. */
export const many = (n, one, more = one + 's') => `${number(n)} ${n === 1 ? one : more}`;

/** A span of seconds. */
export function span(seconds) {
  if (!(seconds < 1e9)) return 'never';
  const s = Math.max(0, seconds);
  if (s < 10) return `${s.toFixed(1)} s`;
  if (s < 90) return `${Math.round(s)} s`;
  if (s < 5400) return `${Math.round(s / 60)} min`;
  if (s < 172800) return `${(s / 3600).toFixed(1)} h`;
  return `${Math.round(s / 86400)} days`;
}

/** A moment in local time, to the second. */
export function moment(ms) {
  const at = new Date(ms);
  const two = n => String(n).padStart(2, '0');
  return `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())} ${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}
