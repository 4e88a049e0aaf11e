// The table of workers.

import { bar } from './charts.js';
import { $, Table, h, setText } from './dom.js';
import { bytes, many, number, percent, span } from './format.js';
import { drain } from './operations.js';
import { can, session } from './session.js';

const STATES = { alive: ['ok', 'alive'], grace: ['warn', 'away'], gone: ['bad', 'gone'] };

const state = worker => worker.draining && worker.presence === 'alive' ? ['warn', 'draining'] : STATES[worker.presence] ?? ['', worker.presence];
const held = worker => worker.used ?? worker.assigned_bytes;
const fullness = worker => worker.capacity ? held(worker) / worker.capacity : 0;
const rings = worker => Object.entries(worker.ring_bytes).filter(([, value]) => value > 0).map(([name]) => name.replace('ring ', '')).join(', ');

const columns = [
  { label: 'Worker', header: true, class: 'w', sort: w => w.node, cell: w => w.node },
  { label: 'State', class: 'w', sort: w => state(w)[1], sign: w => state(w).join(), cell: w => h('span', { class: `tag ${state(w)[0]}` }, state(w)[1]) },
  { label: 'Tier', class: 'w', sort: w => w.tier, cell: w => w.tier },
  { label: 'Zone', class: 'w', sort: w => w.zone ?? '', cell: w => w.zone ?? '–' },
  { label: 'Rings', class: 'w', sort: rings, cell: w => rings(w) || '–' },
  { label: 'Segments', class: 'n', sort: w => w.segments ?? w.assigned, cell: w => number(w.segments ?? w.assigned) },
  {
    label: 'Used of capacity', sort: fullness, sign: w => `${held(w)} ${w.capacity}`,
    cell: w => bar(fullness(w), `${bytes(held(w))} of ${bytes(w.capacity)}`, fullness(w) > 0.95 ? 'bad' : fullness(w) > 0.85 ? 'warn' : ''),
  },
  {
    label: 'Load a core', sort: w => w.load, sign: w => w.load.toFixed(2),
    cell: w => bar(w.load, w.load.toFixed(2), w.load > 1.5 ? 'bad' : w.load > 1 ? 'warn' : '', true),
  },
  { label: 'Lease age', class: 'n', sort: w => w.heartbeat_age, cell: w => `${span(w.heartbeat_age)} of ${span(w.ttl).replace('.0', '')}` },
  { label: 'Copying', class: 'n', sort: w => w.copying ?? 0, cell: w => number(w.copying) },
  {
    label: '', unseen: 'Drain', class: 'n', sign: w => `${w.draining} ${session.role}`,
    cell: w => can('admin') ? h('button', {
      type: 'button', class: 'small', 'aria-label': w.draining ? `Take ${w.node} back` : `Drain ${w.node}`,
      onclick: () => drain(w.node, !w.draining),
    }, w.draining ? 'Take back' : 'Drain') : '',
  },
];

let table;
let all = [];

function draw() {
  const wanted = $('workers-filter').value.trim().toLowerCase();
  const shown = wanted ? all.filter(w => [w.node, w.tier, w.zone ?? '', state(w)[1]].some(text => text.toLowerCase().includes(wanted))) : all;
  table.update(shown, all.length ? 'No worker is like that.' : 'No worker has come yet.');
}

export function begin() {
  table = new Table($('workers'), { caption: 'Workers', columns, key: w => w.node, page: 25, empty: '' });
  $('workers-filter').addEventListener('input', draw);
}

export function update({ cluster }) {
  all = cluster.workers;
  const alive = all.filter(w => w.presence === 'alive');
  const sum = of => alive.reduce((total, worker) => total + of(worker), 0);
  const capacity = sum(w => w.tier === 'hot' ? w.capacity : 0);
  const used = sum(w => w.tier === 'hot' ? held(w) : 0);
  setText($('workers-note'), all.length ? `${alive.length} of ${many(all.length, 'worker')} alive; ${bytes(used)} of ${bytes(capacity)} used (${percent(capacity ? used / capacity : 0)})` : '');
  draw();
}
