// Charts as SVG, each with a text that says the same.

import { h } from './dom.js';
import { number, percent } from './format.js';

/** How wide a chart may be drawn, so that its letters keep their size. */
export const widthFor = host => Math.round(Math.max(280, Math.min(host.clientWidth || 640, 760)));

const round = value => Math.round(value * 10) / 10;

const cut = (text, letters) => text.length > letters ? text.slice(0, Math.max(1, letters - 1)) + '…' : text;

/** A step between lines of the scale, so that about four fit. */
function stepOf(top) {
  const rough = top / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  return [1, 2, 2.5, 5, 10].map(n => n * power).find(step => step >= rough) ?? 10 * power;
}

/** Columns, one a worker, stacked by ring: what each holds against its fair share (1). `rows`: {name, share, parts: [share, …]}. */
export function balance(rows, rings, width) {
  const top = Math.max(1.2, ...rows.map(row => row.share)) * 1.08;
  const [left, height, bottom] = [44, 190, rows.length <= 8 ? 24 : 10];
  const slot = (width - left) / rows.length;
  const wide = Math.min(slot * 0.72, 64);
  const y = share => round(height - (height - 8) * share / top);
  const columns = rows.map((row, i) => {
    const x = round(left + slot * i + (slot - wide) / 2);
    let from = 0;
    const parts = row.parts.map((part, ring) => {
      const rect = h('rect', { class: `c${ring % 3}`, x, y: y(from + part), width: round(wide), height: Math.max(0, round(y(from) - y(from + part))) });
      from += part;
      return rect;
    });
    const name = rows.length <= 8 ? h('text', { x: round(x + wide / 2), y: height + 17, 'text-anchor': 'middle' }, cut(row.name, slot / 7)) : null;
    return h('g', {}, h('title', {}, `${row.name}: ${percent(row.share)} of its fair share`), parts, name);
  });
  const scale = [0, 0.5, 1].map(at => [
    at === 1 ? null : h('line', { class: 'axis', x1: left, x2: width, y1: y(at), y2: y(at) }),
    h('text', { x: left - 8, y: y(at) + 4, 'text-anchor': 'end' }, `${100 * at} %`)]);
  const fair = h('line', { class: 'fair', x1: left, x2: width, y1: y(1), y2: y(1) });
  const most = rows.reduce((a, b) => b.share > a.share ? b : a);
  const least = rows.reduce((a, b) => b.share < a.share ? b : a);
  const text = `${rows.length} workers against their fair share: ${most.name} has most with ${percent(most.share)}, ${least.name} least with ${percent(least.share)}.`;
  return [
    h('p', { class: 'legend' }, rings.map((ring, i) => h('span', {}, h('i', { class: `c${i % 3}` }), ring))),
    h('svg', { viewBox: `0 0 ${width} ${height + bottom}`, width, height: height + bottom, role: 'img', 'aria-label': text }, scale, columns, fair),
    h('p', { class: 'soft' }, text)];
}

/** The result of a query: bars by label, or a curve over numbers. `points`: [[label or number, value], …]. */
export function plot(kind, points, { x, y, width }) {
  const values = points.map(([, value]) => value);
  const [top, low] = [Math.max(0, ...values), Math.min(0, ...values)];
  const [left, height] = [70, 240];
  const range = top - low || 1;
  const at = value => round(12 + (height - 12) * (top - value) / range);
  const step = stepOf(range);
  const marks = [];
  for (let mark = Math.ceil(low / step) * step; mark <= top + step / 1e6; mark += step) {
    marks.push(h('line', { class: 'axis', x1: left, x2: width, y1: at(mark), y2: at(mark) }),
      h('text', { x: left - 8, y: at(mark) + 4, 'text-anchor': 'end' }, number(Number(mark.toPrecision(6)))));
  }
  const peak = points.reduce((a, b) => b[1] > a[1] ? b : a);
  const text = `${y} by ${x}: ${points.length} ${kind === 'curve' ? 'points' : 'bars'}, from ${number(Math.min(...values))} to ${number(Math.max(...values))}, the greatest at ${peak[0]}.`;
  const shape = kind === 'curve' ? curve(points, left, at, width) : bars(points, left, at, height, width);
  return [
    h('svg', { viewBox: `0 0 ${width} ${height + 26}`, width, height: height + 26, role: 'img', 'aria-label': text }, marks, shape),
    h('p', { class: 'soft' }, text)];
}

function bars(points, left, at, height, width) {
  const slot = (width - left) / points.length;
  const every = Math.ceil(points.length * 70 / (width - left));
  return points.map(([label, value], i) => {
    const x = round(left + slot * i + slot * 0.12);
    const [high, deep] = [Math.min(at(value), at(0)), Math.max(at(value), at(0))];
    return h('g', {}, h('title', {}, `${label}: ${number(value)}`),
      h('rect', { class: 'c0', x, y: high, width: round(slot * 0.76), height: Math.max(1, round(deep - high)) }),
      i % every === 0 ? h('text', { x: round(x + slot * 0.38), y: height + 18, 'text-anchor': 'middle' }, cut(String(label), Math.max(slot * every, 56) / 7)) : null);
  });
}

function curve(points, left, at, width) {
  const sorted = [...points].sort((a, b) => a[0] - b[0]);
  const [first, last] = [sorted[0][0], sorted[sorted.length - 1][0]];
  const x = value => round(left + (width - left) * (last === first ? 0.5 : (value - first) / (last - first)));
  const path = sorted.map(([px, py], i) => `${i ? 'L' : 'M'}${x(px)} ${at(py)}`).join('');
  return [h('path', { class: 'curve', d: path }),
    h('text', { x: left, y: 258 }, number(first)), h('text', { x: width, y: 258, 'text-anchor': 'end' }, number(last))];
}

/** A bar: how much of a whole, with words beside it. */
export function bar(part, words, level = '', short = false) {
  const width = Math.max(0, Math.min(1, part || 0));
  const fill = h('div', { class: `fill ${level}` });
  fill.style.width = `${(100 * width).toFixed(1)}%`;
  return h('div', { class: short ? 'bar short' : 'bar' }, h('div', { class: 'track', 'aria-hidden': 'true' }, fill), h('span', {}, words));
}
