// Elements. Text is only ever set as text: nothing that a server says becomes markup.

export const $ = id => document.getElementById(id);

const SVG = 'http://www.w3.org/2000/svg';
const DRAWN = new Set(['svg', 'g', 'rect', 'line', 'text', 'path', 'title']);

/** An element: `h('td', {class: 'n', onclick: f}, 'text', child)`. Attributes that are null, undefined or false are left out. */
export function h(tag, attributes = {}, ...children) {
  const element = DRAWN.has(tag) ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (value === true) element.setAttribute(name, '');
    else if (value !== null && value !== undefined && value !== false) element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter(child => child !== null && child !== undefined && child !== false));
  return element;
}

/** Sets an element's text, and touches nothing if it stands there already: live regions speak only when something changes. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

export function show(element, shown) {
  if (element.hidden === shown) element.hidden = !shown;
}

/** A segment's id that leads to its story. */
export function segmentLink(id) {
  return h('a', { class: 'id', href: '#segments/' + encodeURIComponent(id) }, id);
}

/**
 * A table that is brought up to date in place, so that focus and scrolling stay. Columns: {label, cell(row), sign(row)?, class?,
 * sort(row)?}. `cell` gives a text or a node; a node is replaced only when `sign` says something else than before.
 */
export class Table {
  constructor(host, { caption, columns, key, empty, page = 0 }) {
    Object.assign(this, { host, columns, key, empty, page, rows: new Map(), data: [], at: 0, order: null });
    this.body = h('tbody');
    this.headers = columns.map(column => h('th', { scope: 'col', class: column.class },
      column.sort ? h('button', { type: 'button', onclick: () => this.sortBy(column) }, column.label)
        : column.label || h('span', { class: 'unseen' }, column.unseen ?? 'action')));
    this.table = h('table', {}, h('caption', { class: 'unseen' }, caption), h('thead', {}, h('tr', {}, this.headers)), this.body);
    this.nothing = h('p', { class: 'soft' });
    this.pager = h('div', { class: 'pager' });
    host.replaceChildren(this.nothing, this.table, this.pager);
  }

  sortBy(column) {
    const down = this.order?.column === column ? !this.order.down : column.class === 'n';
    this.order = { column, down };
    this.columns.forEach((c, i) => c === column
      ? this.headers[i].setAttribute('aria-sort', down ? 'descending' : 'ascending') : this.headers[i].removeAttribute('aria-sort'));
    this.update(this.data);
  }

  update(data, empty = this.empty) {
    this.data = data;
    setText(this.nothing, data.length ? '' : empty);
    show(this.nothing, !data.length);
    show(this.table, data.length > 0);
    let shown = data;
    if (this.order) {
      const { column, down } = this.order;
      const compare = (a, b) => typeof a === 'string' ? a.localeCompare(b, 'en', { numeric: true }) : a - b;
      shown = [...data].sort((a, b) => (down ? -1 : 1) * compare(column.sort(a), column.sort(b)));
    }
    if (this.page) {
      if (this.at >= shown.length) this.at = 0;
      this.turn(shown.length);
      shown = shown.slice(this.at, this.at + this.page);
    }
    const seen = new Set();
    shown.forEach((row, i) => {
      const key = this.key(row, i);
      seen.add(key);
      const line = this.rows.get(key) ?? this.add(key);
      this.fill(line, row);
      if (this.body.children[i] !== line.element) this.body.insertBefore(line.element, this.body.children[i] ?? null);
    });
    for (const [key, line] of this.rows) {
      if (!seen.has(key)) { line.element.remove(); this.rows.delete(key); }
    }
  }

  turn(all) {
    const label = all > this.page ? `${this.at + 1}–${Math.min(this.at + this.page, all)} of ${all}` : '';
    if (this.pager.dataset.label === label) return;
    this.pager.dataset.label = label;
    const go = by => () => { this.at += by; this.update(this.data); };
    this.pager.replaceChildren(...label ? [
      h('button', { type: 'button', class: 'small', disabled: this.at === 0, onclick: go(-this.page) }, 'Previous'),
      h('span', { class: 'soft' }, label),
      h('button', { type: 'button', class: 'small', disabled: this.at + this.page >= all, onclick: go(this.page) }, 'Next')] : []);
  }

  add(key) {
    const cells = this.columns.map((column, i) => i === 0 && column.header
      ? h('th', { scope: 'row', class: column.class }) : h('td', { class: column.class }));
    const line = { element: h('tr', {}, cells), cells, signs: [] };
    this.rows.set(key, line);
    return line;
  }

  fill(line, row) {
    this.columns.forEach((column, i) => {
      const sign = column.sign ? String(column.sign(row)) : undefined;
      if (sign !== undefined && line.signs[i] === sign) return;
      line.signs[i] = sign;
      const value = column.cell(row);
      if (value instanceof Node) line.cells[i].replaceChildren(value);
      else setText(line.cells[i], value ?? '');
    });
  }
}

/** Asks before something is done; true if the answer is yes. */
export function confirmed(title, text, yes) {
  const dialog = $('ask');
  setText($('ask-title'), title);
  setText($('ask-text'), text);
  setText($('ask-yes'), yes);
  dialog.returnValue = 'no';
  dialog.showModal();
  return new Promise(resolve => dialog.addEventListener('close', () => resolve(dialog.returnValue === 'yes'), { once: true }));
}
