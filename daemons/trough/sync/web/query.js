// One statement on one or many segments: rows, pages, a chart.

import { ask } from './api.js';
import { plot, widthFor } from './charts.js';
import { $, h, setText } from './dom.js';
import { many, number } from './format.js';

const PAGE = 100;
const MOST_BARS = 60;

let result = null;
let at = 0;

export function begin() {
  $('query-form').addEventListener('submit', event => { event.preventDefault(); run(); });
  $('query-form').addEventListener('keydown', event => {
    if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) { event.preventDefault(); run(); }
  });
}

/** Puts a segment in, for whoever comes from its story. */
export function prepare(segment) {
  $('query-segments').value = /^~|[\s"]/.test(segment) ? `"${segment.replaceAll('"', '""')}"` : segment;
  if (!$('query-sql').value) $('query-sql').value = 'select name, type from sqlite_master';
  $('query-sql').focus();
}

function wish() {
  const where = $('query-segments').value.trim();
  const reduce = $('query-reduce').value.trim();
  const body = { sql: $('query-sql').value, limit: Number($('query-limit').value) };
  if (reduce) body.reduce = reduce;
  if (where.startsWith('~')) body.matching = where.slice(1).trim();
  else body.segments = idsOf(where);
  return body;
}

/** Ids, one a blank between; one that holds blanks stands in double quotes. */
function idsOf(text) {
  return [...text.matchAll(/"((?:[^"]|"")*)"(?=\s|$)|(\S+)/g)].map(found => found[1] !== undefined ? found[1].replaceAll('""', '"') : found[2]);
}

async function run() {
  $('query-run').disabled = true;
  setText($('query-note'), 'Running…');
  $('query-note').classList.remove('error');
  const began = performance.now();
  try {
    result = await ask('/v1/console', { method: 'POST', body: wish(), limit: 40_000 });
    const cut = result.cut ? ' (there are more)' : '';
    setText($('query-note'), `${many(result.rows.length, 'row')}${cut} from ${many(result.stats.segments, 'segment')} in ${number(Math.round(performance.now() - began))} ms`);
  } catch (error) {
    result = null;
    setText($('query-note'), error.message);
    $('query-note').classList.add('error');
  } finally {
    $('query-run').disabled = false;
  }
  at = 0;
  draw();
  drawChart();
}

const named = () => !result.reduced && result.stats.segments > 1;
const headings = () => named() ? ['segment', ...result.columns] : result.columns;
const cells = line => named() ? [line.segment, ...line.row] : line.row;

/** A value as text: integers beyond a browser's numbers, blobs and odd reals come as objects. */
function shown(value) {
  if (value === null) return 'null';
  if (typeof value !== 'object') return String(value);
  if ('integer' in value) return value.integer;
  if ('blob' in value) return `blob, ${number(Math.floor(value.blob.length * 3 / 4) - (value.blob.match(/=+$/)?.[0].length ?? 0))} bytes`;
  return 'real' in value ? value.real : JSON.stringify(value);
}

const isNumber = value => typeof value === 'number' || (value !== null && typeof value === 'object' && 'integer' in value);

function draw() {
  if (!result || !result.columns.length) {
    $('query-rows').replaceChildren();
    $('query-pager').replaceChildren();
    return;
  }
  const cell = value => h('td', { class: isNumber(value) ? 'n' : value === null ? 'null' : 'value' }, shown(value));
  const numeric = headings().map((_, i) => result.rows.length > 0 && result.rows.every(line => isNumber(cells(line)[i]) || cells(line)[i] === null));
  $('query-rows').replaceChildren(h('table', {}, h('caption', { class: 'unseen' }, 'Rows of the result'),
    h('thead', {}, h('tr', {}, headings().map((name, i) => h('th', { scope: 'col', class: numeric[i] ? 'n' : null }, name)))),
    h('tbody', {}, result.rows.slice(at, at + PAGE).map(line => h('tr', {}, cells(line).map(cell))))));
  const turn = (label, disabled, by) => h('button', { type: 'button', class: 'small', disabled, onclick: () => { at += by; draw(); } }, label);
  $('query-pager').replaceChildren(...result.rows.length > PAGE ? [
    turn('Previous', at === 0, -PAGE), h('span', { class: 'soft' }, `rows ${at + 1}–${Math.min(at + PAGE, result.rows.length)} of ${number(result.rows.length)}`),
    turn('Next', at + PAGE >= result.rows.length, PAGE)] : []);
}

/** Offers a chart where a column holds numbers. */
function drawChart() {
  $('query-chart').replaceChildren();
  if (!result || result.rows.length < 2) return;
  const names = headings();
  const rows = result.rows.map(cells);
  const numbers = names.map((_, i) => i).filter(i => rows.some(row => typeof row[i] === 'number') && rows.every(row => row[i] === null || typeof row[i] === 'number'));
  if (!numbers.length) return;
  const text = names.map((_, i) => i).find(i => !numbers.includes(i));
  const select = (id, label, options, value) => [h('label', { for: id }, label), h('select', { id, onchange: again }, options.map(([key, name]) => h('option', { value: key, selected: String(key) === String(value) }, name)))];
  const x = text ?? numbers[0];
  const y = numbers.find(i => i !== x) ?? numbers[0];
  const kind = numbers.includes(x) && rows.length > 12 ? 'curve' : 'bars';
  const picture = h('div', { id: 'query-picture' });
  $('query-chart').append(h('div', { class: 'line' },
    select('chart-kind', 'Chart', [['bars', 'bars'], ['curve', 'curve'], ['none', 'none']], kind),
    select('chart-x', 'by', names.map((name, i) => [i, name]), x),
    select('chart-y', 'of', numbers.map(i => [i, names[i]]), y)), picture);
  again();

  function again() {
    const [kind, x, y] = [$('chart-kind').value, Number($('chart-x').value), Number($('chart-y').value)];
    let points = rows.filter(row => typeof row[y] === 'number').map(row => [row[x], row[y]]);
    if (kind === 'none' || points.length < 2) { picture.replaceChildren(); return; }
    if (kind === 'curve') {
      points = points.filter(([at]) => typeof at === 'number');
      if (points.length < 2) { picture.replaceChildren(h('p', { class: 'soft' }, `${names[x]} holds no numbers: a curve needs them.`)); return; }
    } else points = points.map(([at, value]) => [shown(at), value]);
    const more = kind === 'bars' && points.length > MOST_BARS ? h('p', { class: 'soft' }, `the first ${MOST_BARS} of ${number(points.length)} rows`) : null;
    if (kind === 'bars') points = points.slice(0, MOST_BARS);
    picture.replaceChildren(...plot(kind, points, { x: names[x], y: names[y], width: widthFor(picture) }), ...more ? [more] : []);
  }
}
