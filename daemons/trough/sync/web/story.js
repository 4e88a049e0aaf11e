// One segment's whole story: what is known of it now, and what happened to it.

import { ask } from './api.js';
import { bar } from './charts.js';
import { $, h, show } from './dom.js';
import { bytes, many, moment, number, span } from './format.js';

const SAID = {
  provisioned: e => ['Provisioned', `${e.new ? 'made from its schema' : 'from the file that there was'}, ${bytes(e.bytes)}`],
  provision_refused: e => ['Provisioning refused', e.reason],
  lock_taken: e => ['Lock taken', `fence ${e.fence}`],
  lock_released: e => ['Lock released', `fence ${e.fence}`],
  lock_lost: e => ['Lock lost', `fence ${e.fence}`],
  promoted: e => ['Promoted', `${bytes(e.bytes)} of ${moment(e.mtime_ms)}, SHA-256 ${e.sha256}`],
  promotion_failed: e => ['Promotion failed', e.reason],
  copied: e => ['Copied', `${bytes(e.bytes)} of ${moment(e.mtime_ms)}`],
  freshened: e => ['Freshened', `${bytes(e.bytes)} of ${moment(e.mtime_ms)}`],
  copy_failed: e => ['Copy failed', e.reason],
  quarantined: e => ['Quarantined', e.reason],
  dropped: () => ['Dropped', 'enough other copies are live'],
  shredded: () => ['Shredded', ''],
  assigned: e => [e.why === 'move' ? 'Moved' : 'Assigned', `to ${e.to}, ${e.ring === 'cold' ? 'cold tier' : `ring ${e.ring}`}${e.why === 'repair' ? ', there were too few copies' : ''}`],
  unassigned: e => ['Unassigned', `from ${e.from}`],
};

let wanted = null;
let drawn = '';

/** Shows a segment's story; none hides it. */
export async function open(id) {
  wanted = id;
  drawn = '';
  show($('story'), id !== null);
  if (id === null) return;
  $('story').replaceChildren(h('h2', { id: 'story-title', tabindex: '-1' }, h('span', { class: 'id' }, id)), h('p', { class: 'soft' }, 'Asking…'));
  $('story-title').focus({ preventScroll: true });
  $('story').scrollIntoView({ block: 'nearest' });
  await refresh();
}

export async function refresh() {
  const id = wanted;
  if (id === null) return;
  const path = '/v1/segment/' + encodeURIComponent(id);
  let known;
  let told;
  try {
    [known, told] = await Promise.all([ask(path), ask(path + '/events')]);
  } catch (error) {
    if (id !== wanted) return;
    // What was shredded has a past all the same.
    told = error.status === 404 ? await ask(path + '/events').catch(() => null) : null;
    if (id !== wanted) return;
    drawn = '';
    put(id, [h('p', { class: 'error' }, error.message), ...told?.events.length ? [h('h3', {}, 'What happened'), history(told)] : []]);
    return;
  }
  const sign = JSON.stringify([known, told]);
  if (id !== wanted || sign === drawn) return;
  drawn = sign;
  put(id, [
    h('p', {}, verdict(known)), facts(known), h('h3', {}, 'Copies'), copies(known), ...underWay(known),
    h('h3', {}, 'What happened'), history(told)]);
}

function put(id, body) {
  const focused = document.activeElement?.id;
  const query = h('button', { type: 'button', class: 'small', id: 'story-query', onclick: () => { location.hash = '#query/' + encodeURIComponent(id); } }, 'Query it');
  $('story').replaceChildren(h('div', { class: 'head' }, h('h2', { id: 'story-title', tabindex: '-1' }, h('span', { class: 'id' }, id)), query), ...body);
  if (focused === 'story-query' || focused === 'story-title') $(focused).focus({ preventScroll: true });
}

const reads = known => known.services.filter(s => s.role === 'trough-read');

function verdict(known) {
  const live = reads(known).filter(s => s.alive);
  const wish = known.cold ? 1 : known.copies_wanted ?? 1;
  const said = [];
  const holder = known.lock && (known.services.some(s => s.node === known.lock.node && s.alive) ? '' : ', which does not serve it');
  if (known.lock) said.push(`${known.lock.under_promotion ? 'Being promoted' : 'Open for writing'} on ${known.lock.node}${holder}.`);
  if (!live.length) said.push('Nobody serves it.');
  else if (live.length < wish && !known.lock) said.push(`${many(live.length, 'live copy', 'live copies')}, ${number(wish)} are wanted.`);
  else said.push(`${many(live.length, 'live copy', 'live copies')}.`);
  if (!known.canonical && !known.store_error) said.push(known.lock ? 'It was never promoted.' : 'There is no canonical file.');
  return said.join(' ');
}

function facts(known) {
  const lines = [
    ['Canonical file', known.canonical ? `${bytes(known.canonical.bytes)} of ${moment(known.canonical.mtime_ms)}` : known.store_error ?? 'none'],
    known.canonical ? ['Path', h('code', {}, known.canonical.path)] : null,
    ['Tier', known.cold ? 'cold' : 'hot'],
    ['Copies wanted', known.cold ? 'on every cold worker' : number(known.copies_wanted)],
    ['Write lock', known.lock ? `${known.lock.node}, fence ${known.lock.fence}${known.lock.acquired_on ? `, since ${moment(1000 * known.lock.acquired_on.epoch_time)}` : ''}` : 'none'],
    ...known.assignments.some(a => a.sha256) ? [['SHA-256', h('code', {}, known.assignments.find(a => a.sha256).sha256)]] : [],
  ].filter(line => line !== null);
  return h('dl', { class: 'facts' }, lines.map(([name, value]) => [h('dt', {}, name), h('dd', {}, value)]));
}

function copies(known) {
  const nodes = [...new Set([...known.assignments.map(a => a.node), ...known.services.map(s => s.node)])].sort();
  if (!nodes.length) return h('p', { class: 'soft' }, 'No worker has it, and none shall have it.');
  const canonical = known.canonical ? Math.floor(known.canonical.mtime_ms / 1000) : 0;
  const rows = nodes.map(node => {
    const assignment = known.assignments.find(a => a.node === node);
    const service = reads(known).find(s => s.node === node);
    const writes = known.services.some(s => s.node === node && s.role === 'trough-write' && s.alive);
    const version = service?.version_ms ?? 0;
    const stale = version && canonical && Math.floor(version / 1000) < canonical;
    const [level, state] = !service ? ['warn', 'on the way'] : !service.alive ? ['bad', 'worker is away'] : stale ? ['warn', 'stale'] : ['ok', 'live'];
    return h('tr', {},
      h('th', { scope: 'row' }, node), h('td', { class: 'w' }, h('span', { class: `tag ${level}` }, state), writes ? [' ', h('span', { class: 'tag' }, 'writable')] : null),
      h('td', { class: 'w' }, assignment ? assignment.hash_ring === 'cold' ? 'cold' : `ring ${assignment.hash_ring}` : 'not assigned'),
      h('td', { class: 'w' }, assignment?.assigned_on ? moment(1000 * assignment.assigned_on.epoch_time) : '–'),
      h('td', { class: 'w' }, version ? moment(version) : '–'));
  });
  return h('div', { class: 'scroll', role: 'region', 'aria-label': 'Table of copies', tabindex: 0 }, h('table', {}, h('caption', { class: 'unseen' }, 'Copies of the segment'),
    h('thead', {}, h('tr', {}, ['Worker', 'State', 'Assignment', 'Assigned', 'Version served'].map(name => h('th', { scope: 'col' }, name)))), h('tbody', {}, rows)));
}

function underWay(known) {
  const flights = [...known.promoting.map(f => ({ ...f, what: `promoting${f.stage ? `: ${f.stage}` : ''}` })), ...known.copying.map(f => ({ ...f, what: 'copying' }))];
  const lines = [
    ...flights.map(f => h('li', {}, `${f.node}: ${f.what}`, bar(f.bytes ? f.done / f.bytes : 0, `${bytes(f.done)} of ${bytes(f.bytes)}`))),
    ...known.failed.map(f => h('li', { class: 'error' }, `${f.node}: the copy failed ${f.attempts === 1 ? 'once' : `${f.attempts} times`}: ${f.error}`)),
    ...known.quarantine.map(q => h('li', { class: 'error' }, `${q.node}: broken${q.at_ms ? ` since ${moment(q.at_ms)}` : ''}: ${q.reason}`))];
  return lines.length ? [h('h3', {}, 'Under way and in trouble'), h('ul', {}, lines)] : [];
}

function history(told) {
  const now = Date.now();
  const lines = told.events.map(event => {
    const [what, more] = (SAID[event.event] ?? (() => [event.event, '']))(event);
    return h('li', {}, h('time', { datetime: new Date(event.at_ms).toISOString(), title: `${span((now - event.at_ms) / 1000)} ago` }, moment(event.at_ms)),
      h('strong', {}, what), h('span', { class: 'soft' }, `${event.node}${more ? `: ${more}` : ''}`));
  });
  const silent = told.silent.length ? h('p', { class: 'soft' }, `${told.silent.join(', ')} did not answer in time.`) : null;
  return h('div', {}, lines.length ? h('ol', { class: 'events' }, lines) : h('p', { class: 'soft' }, 'Nobody remembers anything of it.'), silent);
}
