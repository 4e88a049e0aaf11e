// The search for segments, paged by the server.

import { ask, url } from './api.js';
import { $, h, setText } from './dom.js';
import { many } from './format.js';

let text = '';
/** The ids that the pages begin after, the present one last. */
let places = [null];

export function begin() {
  $('search').addEventListener('submit', event => {
    event.preventDefault();
    text = $('search-text').value.trim();
    places = [null];
    find();
  });
}

async function find() {
  setText($('found-note'), 'Looking…');
  let page;
  try {
    page = await ask(url('/v1/segments', { matching: text, after: places.at(-1), limit: 60 }));
  } catch (error) {
    $('found').replaceChildren();
    $('found-pager').replaceChildren();
    // An id need not be a regular expression.
    if (error.status === 400 && text) { location.hash = '#segments/' + encodeURIComponent(text); }
    setText($('found-note'), error.message);
    return;
  }
  const exact = page.segments.some(s => s.segment === text);
  if (exact || (page.segments.length === 0 && text) || page.segments.length === 1) {
    location.hash = '#segments/' + encodeURIComponent(exact || !page.segments.length ? text : page.segments[0].segment);
  }
  setText($('found-note'), page.segments.length ? `${many(page.segments.length, 'segment')}${page.next ? ', and more' : ''}` : 'No segment is served, locked or short of copies that matches.');
  $('found').replaceChildren(...page.segments.map(s => h('li', {}, h('button', {
    type: 'button', onclick: () => { location.hash = '#segments/' + encodeURIComponent(s.segment); },
  }, h('span', { class: 'id' }, s.segment), h('span', { class: 'soft' }, many(s.copies, 'copy', 'copies')), s.locked ? h('span', { class: 'tag warn' }, 'locked') : null))));
  const turn = (label, disabled, go) => h('button', { type: 'button', class: 'small', disabled, onclick: () => { go(); find(); } }, label);
  $('found-pager').replaceChildren(...places.length > 1 || page.next ? [
    turn('Previous', places.length === 1, () => places.pop()), h('span', { class: 'soft' }, `page ${places.length}`),
    turn('Next', !page.next, () => places.push(page.next))] : []);
}
