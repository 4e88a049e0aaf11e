// The figures at the top, and the balance of the rings.

import { balance, widthFor } from './charts.js';
import { $, h, setText } from './dom.js';
import { bytes, number, percent } from './format.js';

const tiles = new Map();
let drawn = '';

function tile(label, value, level = '') {
  let entry = tiles.get(label);
  if (!entry) {
    const dd = h('dd');
    entry = { box: h('div', { class: 'tile' }, h('dt', {}, label), dd), dd };
    tiles.set(label, entry);
    $('tiles').append(entry.box);
  }
  setText(entry.dd, value);
  if (entry.box.dataset.level !== level) entry.box.dataset.level = level;
}

export function update(document) {
  const { cluster } = document;
  const s = cluster.summary;
  tile('segments', number(s.segments));
  tile('canonical bytes', bytes(s.bytes));
  tile('segments served', number(document.segments_served));
  tile('short of copies', number(s.under_replicated), s.unserved ? 'bad' : s.under_replicated ? 'warn' : '');
  tile('copies in flight', number(s.in_flight));
  tile('moves held back', number(s.deferred + s.waiting_drops));
  tile('write locks', number(document.locks));
  tile('promotions', number(document.promoting));
  if (s.cold) tile('cold segments', number(s.cold));
  drawBalance(cluster.workers.filter(worker => worker.tier === 'hot' && worker.presence !== 'gone'));
}

function drawBalance(workers) {
  const total = worker => Object.values(worker.ring_bytes).reduce((a, b) => a + b, 0);
  const rings = [...new Set(workers.flatMap(worker => Object.keys(worker.ring_bytes)))].sort();
  const weight = workers.reduce((sum, worker) => sum + worker.capacity, 0);
  const all = workers.reduce((sum, worker) => sum + total(worker), 0);
  const width = widthFor($('balance'));
  const sign = width + JSON.stringify(workers.map(w => [w.node, w.capacity, w.ring_bytes]));
  if (sign === drawn) return;
  drawn = sign;
  if (!all || !weight) {
    $('balance').replaceChildren(h('p', { class: 'soft' }, 'Nothing is placed yet.'));
    return;
  }
  const rows = workers.map(worker => {
    const fair = all * worker.capacity / weight;
    return { name: worker.node, bytes: total(worker), share: total(worker) / fair, parts: rings.map(ring => (worker.ring_bytes[ring] ?? 0) / fair) };
  });
  const figures = h('details', {}, h('summary', {}, 'The figures'), h('div', { class: 'scroll' }, h('table', {},
    h('caption', { class: 'unseen' }, 'Ring balance'),
    h('thead', {}, h('tr', {}, ['Worker', ...rings, 'Bytes', 'Of its fair share'].map((name, i) => h('th', { scope: 'col', class: i ? 'n' : 'w' }, name)))),
    h('tbody', {}, workers.map((worker, i) => h('tr', {}, h('th', { scope: 'row' }, worker.node),
      rings.map(ring => h('td', { class: 'n' }, bytes(worker.ring_bytes[ring] ?? 0))),
      h('td', { class: 'n' }, bytes(rows[i].bytes)), h('td', { class: 'n' }, percent(rows[i].share))))))));
  figures.open = $('balance').querySelector('details')?.open ?? false;
  $('balance').replaceChildren(...balance(rows, rings, width), figures);
}
