// The dashboard's tiles: which are shown, in what order and group, and which are on the screen.

import { announce, byId, h, isCameraId, setText } from './dom.js';
import { sentence } from './format.js';
import { recall, remember } from './prefs.js';
import { text } from './text.js';
import { Tile, nameOf, pictureState } from './tile.js';

const words = text.dash;
const isList = (value) => Array.isArray(value) && value.every((id) => typeof id === 'string');
const isMap = (value) => typeof value === 'object' && !Array.isArray(value);

export class Grid {
  #store;
  #api;
  #config;
  #tiles = new Map();
  #visible = new Set();
  #order = recall('order', [], isList);
  #groups = recall('groups', {}, isMap);
  #layout = recall('layout', 'auto', (value) => value in words.layouts);
  #live = recall('live', 'always', (value) => value in words.liveModes);
  #filter = recall('filter', 'all', (value) => value in words.filters);
  #group = recall('group', '', (value) => typeof value === 'string');
  #search = '';
  #parts = {};
  #busy = new Set();
  #shown = '';
  #observer;
  node;

  constructor({ store, api, config }) {
    this.#store = store;
    this.#api = api;
    this.#config = config;
    this.#build();
    this.#observer = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        const id = entry.target.closest('.tile').dataset.camera;
        if (entry.isIntersecting) this.#visible.add(id);
        else this.#visible.delete(id);
        this.#tiles.get(id)?.show(entry.isIntersecting, this.#live);
      }
    }, { threshold: 0.15 });
    store.addEventListener('change', () => this.draw());
    document.addEventListener('visibilitychange', () => this.#showAll());
    window.addEventListener('pagehide', () => this.#tiles.forEach((tile) => tile.leave()));
    window.addEventListener('pageshow', () => this.#showAll());
  }

  /** Read-only, for tests: what each tile shows. */
  get states() {
    return Object.fromEntries([...this.#tiles].map(([id, tile]) => [id, tile.state]));
  }

  /** The connection of a tile, for a larger picture; `null` if it has none that is live. */
  give(id) {
    return this.#tiles.get(id)?.give() ?? null;
  }

  /** The large picture is left: its tile goes on with the connection, if there is one. */
  take(id, early) {
    const tile = this.#tiles.get(id);
    if (tile && early) tile.take(early);
    else early?.connection.close();
    tile?.focus();
  }

  /** Another page of the dashboard is shown: hidden tiles let go by themselves. */
  draw() {
    const { cameras, error, loaded } = this.#store;
    for (const [id, camera] of cameras) {
      const tile = this.#tiles.get(id);
      if (tile) tile.update(camera);
      else this.#add(camera);
    }
    for (const [id, tile] of this.#tiles) {
      if (!cameras.has(id)) this.#remove(id, tile);
    }
    const parts = this.#parts;
    const { notice, empty } = parts;
    notice.hidden = !error && notice.dataset.kind !== 'action';
    if (error) {
      notice.dataset.kind = 'lost';
      setText(notice, words.lost(error.message));
    } else if (notice.dataset.kind === 'lost') notice.hidden = true;
    this.node.dataset.stale = String(Boolean(error));
    // Shown before, it would be pushed down by the tiles.
    if (loaded || error) parts.form.hidden = false;
    this.#arrange();
    const any = [...this.#tiles.values()].some((tile) => !tile.node.hidden);
    empty.hidden = !loaded || any;
    setText(empty, cameras.size > 0 ? words.nothing : document.documentElement.dataset.role === 'view' ? words.emptyView : words.empty);
  }

  #build() {
    const parts = this.#parts;
    parts.notice = h('p', { class: 'notice', role: 'alert', hidden: true });
    parts.empty = h('p', { class: 'quiet empty', hidden: true });
    parts.sections = h('div', { class: 'groups', 'data-layout': this.#layout });
    parts.wall = h('div', { class: 'wall' }, parts.sections, h('button', { type: 'button', class: 'leave', onclick: () => document.exitFullscreen() }, words.wallEnd));
    const search = h('input', { type: 'search', id: 'search', autocomplete: 'off', placeholder: words.searchHint, oninput: () => { this.#search = search.value.trim().toLowerCase(); this.draw(); } });
    const chooser = (id, label, options, value, onchange) => {
      const select = h('select', { id, onchange: () => onchange(select.value) }, Object.entries(options).map(([key, name]) => h('option', { value: key }, name)));
      select.value = value;
      return [select, h('div', { class: 'tool' }, h('label', { for: id }, label), select)];
    };
    const [, filter] = chooser('filter', words.filter, words.filters, this.#filter, (value) => { this.#filter = value; remember('filter', value); this.draw(); });
    const [, layout] = chooser('layout', words.layout, words.layouts, this.#layout, (value) => { this.#layout = value; remember('layout', value); parts.sections.dataset.layout = value; });
    const [, live] = chooser('live', words.live, words.liveModes, this.#live, (value) => { this.#live = value; remember('live', value); this.#showAll(); this.draw(); });
    const [groupSelect, group] = chooser('group', words.group, { '': words.allGroups }, '', (value) => { this.#group = value; remember('group', value); this.draw(); });
    [parts.groupSelect, parts.groupTool] = [groupSelect, group];
    const wall = h('button', { type: 'button', hidden: !document.fullscreenEnabled, onclick: () => parts.wall.requestFullscreen().catch(() => {}) }, words.wall);
    const id = h('input', { id: 'camera-input', maxlength: '32', autocomplete: 'off', autocapitalize: 'characters', spellcheck: 'false', 'aria-describedby': 'camera-hint', oninput: () => wrong('') });
    const mistake = h('p', { class: 'mistake', role: 'alert' });
    const wrong = (why) => {
      setText(mistake, why);
      id.setAttribute('aria-invalid', String(Boolean(why)));
    };
    parts.form = h('form', {
      class: 'open-form needs-control', novalidate: true, hidden: true,
      onsubmit: (event) => {
        event.preventDefault();
        const camera = id.value.trim().toUpperCase();
        if (!isCameraId(camera)) {
          wrong(words.wrongId);
          return id.focus();
        }
        id.value = '';
        return this.#act(camera, camera, () => this.#api.start(camera));
      },
    }, h('label', { for: 'camera-input' }, words.startLabel), h('div', { class: 'field' }, id, h('button', { type: 'submit' }, words.startButton)), mistake, h('p', { class: 'quiet', id: 'camera-hint' }, words.startHint));
    this.node = h('div', { class: 'dash' },
      h('h1', { class: 'visually-hidden', tabindex: '-1' }, words.title),
      foldable(h('div', { class: 'tools', role: 'group', 'aria-label': words.tools },
        h('div', { class: 'tool grow' }, h('label', { for: 'search' }, words.search), search), filter, group, layout, live,
        h('div', { class: 'tool' }, wall))),
      parts.notice, parts.wall, parts.empty, h('p', { id: 'move-hint', hidden: true }, words.moveHint), parts.form);
  }

  #add(camera) {
    const tile = new Tile({
      camera, api: this.#api, config: this.#config,
      on: {
        toggle: (one) => this.#toggle(one), group: (one) => this.#askGroup(one), move: (one, key) => this.#moveByKey(one, key), grab: (event, one) => this.#grab(event, one),
      },
    });
    this.#tiles.set(camera.camera_id, tile);
    this.#observer.observe(tile.node.querySelector('.screen'));
  }

  #remove(id, tile) {
    this.#observer.unobserve(tile.node.querySelector('.screen'));
    tile.leave();
    tile.node.remove();
    this.#tiles.delete(id);
    this.#visible.delete(id);
  }

  #showAll() {
    for (const [id, tile] of this.#tiles) tile.show(this.#visible.has(id), this.#live);
  }

  // In the order of this device; new cameras come last, by name.
  #sorted() {
    const place = new Map(this.#order.map((id, index) => [id, index]));
    return [...this.#tiles.values()].sort((one, other) => (place.get(one.id) ?? Infinity) - (place.get(other.id) ?? Infinity)
      || nameOf(one.camera).localeCompare(nameOf(other.camera)));
  }

  #fits({ camera }) {
    const state = pictureState(camera);
    const passes = { all: true, live: state === 'live', problem: state !== 'live', online: camera.online === true, offline: camera.online !== true }[this.#filter];
    const words_ = `${camera.name ?? ''} ${camera.camera_id} ${camera.notes ?? ''} ${this.#groups[camera.camera_id] ?? ''}`.toLowerCase();
    return passes && (!this.#group || this.#groups[camera.camera_id] === this.#group) && words_.includes(this.#search);
  }

  // Moves only what stands elsewhere: a node that is moved loses the focus and its picture.
  #arrange() {
    const names = [...new Set([...this.#tiles.keys()].map((id) => this.#groups[id]).filter(Boolean))].sort((a, b) => a.localeCompare(b));
    this.#drawGroupChoice(names);
    const sorted = this.#sorted();
    for (const tile of sorted) tile.node.hidden = !this.#fits(tile);
    const sections = new Map([...this.#parts.sections.children].map((section) => [section.dataset.group, section]));
    const wanted = [...names, ''];
    for (const name of wanted) {
      const section = sections.get(name) ?? newSection(name);
      sections.delete(name);
      const tiles = sorted.filter((tile) => (this.#groups[tile.id] ?? '') === name);
      const list = section.querySelector('ul');
      tiles.forEach((tile, index) => { if (list.children[index] !== tile.node) tile.moveTo(list, list.children[index] ?? null); });
      // As many across as down, where there is room for it.
      const across = String(Math.ceil(Math.sqrt(tiles.filter((tile) => !tile.node.hidden).length)) || 1);
      list.style.setProperty('--across-auto', across);
      list.dataset.across = across;
      section.querySelector('h2').hidden = names.length === 0;
      section.hidden = !tiles.some((tile) => !tile.node.hidden);
      const at = wanted.indexOf(name);
      if (this.#parts.sections.children[at] !== section) this.#parts.sections.insertBefore(section, this.#parts.sections.children[at] ?? null);
    }
    sections.forEach((section) => section.remove());
  }

  #drawGroupChoice(names) {
    const { groupSelect, groupTool } = this.#parts;
    groupTool.hidden = names.length === 0;
    if (this.#group && !names.includes(this.#group)) this.#group = '';
    const key = names.join('\n');
    if (this.#shown !== key) {
      this.#shown = key;
      groupSelect.replaceChildren(...[['', words.allGroups], ...names.map((name) => [name, name])].map(([value, label]) => h('option', { value }, label)));
    }
    groupSelect.value = this.#group;
  }

  #toggle(tile) {
    const runs = tile.node.querySelector('.toggle').dataset.runs === 'true';
    this.#act(tile.id, nameOf(tile.camera), () => (runs ? this.#api.stop(tile.id) : this.#api.start(tile.id)));
  }

  async #act(id, name, call) {
    const { notice } = this.#parts;
    notice.hidden = true;
    notice.dataset.kind = '';
    if (this.#busy.has(id)) return;
    this.#busy.add(id);
    this.#tiles.get(id)?.setBusy(true);
    try {
      await call();
    } catch (error) {
      this.#say(words.failed(name, sentence(error.message)));
    }
    this.#busy.delete(id);
    this.#tiles.get(id)?.setBusy(false);
    await this.#store.refresh();
  }

  #say(message) {
    const { notice } = this.#parts;
    notice.dataset.kind = 'action';
    notice.hidden = false;
    setText(notice, message);
  }

  #askGroup(tile) {
    const name = nameOf(tile.camera);
    const input = h('input', { id: 'group-name', maxlength: '40', list: 'group-names', autocomplete: 'off', value: this.#groups[tile.id] ?? '' });
    const known = [...new Set(Object.values(this.#groups))].map((group) => h('option', { value: group }));
    const dialog = h('dialog', { 'aria-label': text.tile.groupOf(name) },
      h('form', { method: 'dialog', onsubmit: () => this.#setGroup(tile, input.value.trim()) },
        h('label', { for: 'group-name', class: 'field-label' }, text.tile.groupPrompt), input, h('datalist', { id: 'group-names' }, known),
        h('div', { class: 'actions' }, h('button', { type: 'submit', class: 'primary' }, text.tile.save), h('button', { type: 'button', onclick: () => dialog.close() }, text.tile.cancel))));
    dialog.addEventListener('close', () => dialog.remove());
    document.body.append(dialog);
    dialog.showModal();
  }

  #setGroup(tile, name) {
    if (name) this.#groups = { ...this.#groups, [tile.id]: name };
    else delete this.#groups[tile.id];
    remember('groups', this.#groups);
    announce(words.grouped(nameOf(tile.camera), name));
    this.draw();
  }

  #moveByKey(tile, key) {
    const step = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[key];
    if (!step) return false;
    const shown = this.#sorted().filter((one) => !one.node.hidden && (this.#groups[one.id] ?? '') === (this.#groups[tile.id] ?? ''));
    const at = shown.indexOf(tile);
    const neighbour = shown[at + step];
    if (neighbour) {
      this.#place(tile, neighbour, step > 0);
      tile.focusMove();
      announce(words.moved(nameOf(tile.camera), at + step + 1, shown.length));
    }
    return true;
  }

  // Before or behind another tile, in its group.
  #place(tile, other, behind) {
    const order = this.#sorted().map((one) => one.id).filter((id) => id !== tile.id);
    order.splice(order.indexOf(other.id) + (behind ? 1 : 0), 0, tile.id);
    this.#order = order;
    remember('order', order);
    const group = this.#groups[other.id] ?? '';
    if ((this.#groups[tile.id] ?? '') !== group) this.#setGroup(tile, group);
    else this.draw();
  }

  #grab(event, tile) {
    if (event.button !== 0) return;
    event.preventDefault();
    event.currentTarget.focus();
    const over = new AbortController();
    tile.node.classList.add('dragged');
    const onMove = (move) => {
      const under = document.elementFromPoint(move.clientX, move.clientY)?.closest('.tile');
      const other = under && this.#tiles.get(under.dataset.camera);
      if (!other || other === tile) return;
      const box = under.getBoundingClientRect();
      const behind = this.#sorted().indexOf(other) > this.#sorted().indexOf(tile);
      // Only past its middle, or two tiles of different height would change places for ever.
      const past = behind ? move.clientX > box.left + box.width / 2 || move.clientY > box.top + box.height / 2 : true;
      if (past) this.#place(tile, other, behind);
    };
    const onUp = () => {
      tile.node.classList.remove('dragged');
      over.abort();
      tile.focusMove();
    };
    // Not captured by the grip: that would end when its tile is moved.
    document.addEventListener('pointermove', onMove, { signal: over.signal });
    for (const name of ['pointerup', 'pointercancel']) document.addEventListener(name, onUp, { signal: over.signal });
  }
}

// On a phone the pictures come first.
function foldable(tools) {
  const details = h('details', { class: 'fold' }, h('summary', {}, words.tools), tools);
  const wide = window.matchMedia('(min-width: 641px)');
  const fit = () => { details.open = wide.matches; };
  wide.addEventListener('change', fit);
  fit();
  return details;
}

function newSection(name) {
  return h('section', { class: 'group', 'data-group': name }, h('h2', { hidden: !name }, name || words.title), h('ul', { class: 'tiles', 'aria-label': name || words.list }));
}
