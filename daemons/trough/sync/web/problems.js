// Segments that somebody may have to look after. The server makes the pages.

import { ask, url } from './api.js';
import { $, Table, h, segmentLink, setText, show } from './dom.js';
import { number, span } from './format.js';

const KINDS = [
  ['under_replicated', 'Short of copies'], ['missing', 'No canonical file'], ['stale', 'Stale'], ['quarantined', 'Quarantined'],
  ['copy_failed', 'Failed copies'], ['locked', 'Locked long'],
];

const columns = [
  { label: 'Segment', header: true, sign: p => p.segment, cell: p => segmentLink(p.segment) },
  { label: 'Worker', class: 'w', cell: p => p.node ?? '–' },
  { label: 'Since', class: 'n', cell: p => p.since ? span(p.now - p.since) : '–' },
  { label: 'Reason', class: 'value', cell: p => p.reason },
  { label: 'What to do', class: 'value', cell: p => p.action },
];

const buttons = new Map();
let table;
let kind = 'under_replicated';
let matching = '';
/** The places that the pages begin after, the present one last. */
let places = [null];
let chosen = false;

export function begin() {
  table = new Table($('problems-list'), { caption: 'Problems', columns, key: p => `${p.segment}\n${p.node}\n${p.reason}`, empty: '' });
  for (const [name, label] of KINDS) {
    const count = h('b', {}, '0');
    const button = h('button', { type: 'button', onclick: () => { location.hash = `#problems/${name}`; } }, label, count);
    buttons.set(name, { button, count });
    $('kinds').append(button);
  }
  $('problems-filter-form').addEventListener('submit', event => {
    event.preventDefault();
    matching = $('problems-filter').value.trim();
    places = [null];
    refresh().catch(failed);
  });
}

const failed = error => table.update([], error.message);

/** Shows a kind; without a name the first that has entries. */
export function choose(name) {
  chosen = buttons.has(name);
  if (chosen && name !== kind) {
    kind = name;
    places = [null];
  }
}

/** The counts alone, for the number in the navigation. */
function counted(counts) {
  const all = KINDS.reduce((sum, [name]) => sum + counts[name], 0);
  setText($('problem-count'), number(all));
  show($('problem-count'), all > 0);
  for (const [name, { button, count }] of buttons) {
    setText(count, number(counts[name]));
    button.setAttribute('aria-pressed', name === kind);
  }
}

export async function count() {
  counted((await ask('/v1/problems')).counts);
}

export async function refresh() {
  const wanted = { kind, matching, after: places.at(-1), limit: 50 };
  const said = await ask(url('/v1/problems', wanted));
  if (wanted.kind !== kind) return;
  if (!chosen && !said.problems.length && !matching) {
    const other = KINDS.find(([name]) => said.counts[name] > 0);
    chosen = true;
    if (other && other[0] !== kind) {
      kind = other[0];
      return refresh();
    }
  }
  counted(said.counts);
  const now = Date.now() / 1000;
  table.update(said.problems.map(p => ({ ...p, now })), matching ? 'No segment like that has this problem.' : 'No segment has this problem.');
  const turn = (label, disabled, go) => h('button', { type: 'button', class: 'small', disabled, onclick: () => { go(); refresh().catch(failed); } }, label);
  const more = said.counts[kind] > said.pageable ? `the first ${number(said.pageable)} of ${number(said.counts[kind])} can be paged through` : '';
  const sign = `${places.length} ${said.next} ${more}`;
  if ($('problems-pager').dataset.sign !== sign) {
    $('problems-pager').dataset.sign = sign;
    $('problems-pager').replaceChildren(...places.length > 1 || said.next ? [
      turn('Previous', places.length === 1, () => places.pop()),
      h('span', { class: 'soft' }, `page ${places.length}`),
      turn('Next', !said.next, () => places.push(said.next)),
      h('span', { class: 'soft' }, more)] : []);
  }
}
