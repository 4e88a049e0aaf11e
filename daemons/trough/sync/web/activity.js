// Copies and promotions under way.

import { ask } from './api.js';
import { bar } from './charts.js';
import { $, Table, segmentLink, setText } from './dom.js';
import { bytes, many, number, span } from './format.js';

const columns = [
  { label: 'Segment', header: true, sign: f => f.segment, cell: f => segmentLink(f.segment) },
  { label: 'What', class: 'w', cell: f => f.what },
  { label: 'Worker', class: 'w', cell: f => f.node },
  {
    label: 'Progress', sign: f => `${f.done} ${f.bytes}`,
    cell: f => bar(f.bytes ? f.done / f.bytes : 0, f.bytes ? `${bytes(f.done)} of ${bytes(f.bytes)}` : ''),
  },
  { label: 'For', class: 'n', cell: f => span(f.seconds).replace('.0', '') },
];

let table;

export function begin() {
  table = new Table($('activity'), { caption: 'Copies and promotions under way', columns, key: f => `${f.what[0]} ${f.node} ${f.segment}`, page: 12, empty: 'Nothing is under way.' });
}

export async function refresh() {
  const said = await ask('/v1/copies?limit=60');
  const parts = [many(said.copying, 'copy', 'copies'), many(said.promoting, 'promotion')];
  if (said.waiting) parts.push(`${number(said.waiting)} waiting`);
  if (said.failed) parts.push(`${number(said.failed)} failed`);
  if (said.silent.length) parts.push(`${said.silent.join(', ')} did not answer`);
  setText($('activity-note'), parts.join(', '));
  table.update([
    ...said.promotions.map(f => ({ ...f, what: f.stage ? `promoting: ${f.stage}` : 'promoting' })),
    ...said.copies.map(f => ({ ...f, what: 'copying' }))]);
}
