// Shows /openapi.json: operations by tag, then schemas. Whatever the document says is text, never HTML.

import { byId, h } from './dom.js';

const named = (reference) => reference.split('/').pop();

/** A type in words, with links to schemas. */
function type(schema) {
  if (!schema) return ['anything'];
  if (schema.$ref) return [h('a', { href: `#schema-${named(schema.$ref)}` }, named(schema.$ref))];
  const choice = schema.oneOf ?? schema.anyOf;
  if (choice) return choice.flatMap((one, i) => [...(i ? [' or '] : []), ...type(one)]);
  if (schema.allOf) return schema.allOf.flatMap((one, i) => [...(i ? [' and '] : []), ...type(one)]);
  if (schema.enum) return [schema.enum.map((value) => JSON.stringify(value)).join(' | ')];
  const types = [schema.type ?? 'anything'].flat();
  if (types.includes('array')) return ['list of ', ...type(schema.items)];
  const words = types.join(' or ');
  if (types.includes('object') && schema.additionalProperties) return ['object of ', ...type(schema.additionalProperties)];
  return [schema.format ? `${words} (${schema.format})` : words];
}

/** Words, what stands between backticks as code. */
const prose = (text = '') => text.split('`').map((part, i) => (i % 2 ? h('code', {}, part) : part));

function row(cells) {
  return h('tr', {}, ...cells.map((cell) => h('td', {}, cell)));
}

const table = (rows) => h('table', { class: 'fields' }, h('tbody', {}, ...rows));

/** The fields of a schema, those of the schemas that it is made of included. */
function fields(schema) {
  const own = Object.entries(schema.properties ?? {}).map(([name, field]) => row([
    name,
    [...type(field), (schema.required ?? []).includes(name) ? '' : ', may be missing'],
    prose(field.description),
  ]));
  return [...own, ...(schema.allOf ?? []).flatMap((part) => (part.$ref ? [row(['…', type(part), ''])] : fields(part)))];
}

function part(id, heading, ...children) {
  return h('details', { class: 'part', id }, h('summary', {}, ...heading), ...children);
}

function content(body) {
  return Object.entries(body.content ?? {}).map(([kind, { schema }]) => h('p', {}, ...type(schema), ` as ${kind}`));
}

function operation(path, method, it) {
  const heading = [h('span', { class: 'method' }, method.toUpperCase()),
    h('span', { class: 'path' }, path), ' ', ...prose(it.summary)];
  const children = [];
  if (it.description) children.push(h('p', {}, ...prose(it.description)));
  if (it.parameters?.length) {
    children.push(h('h4', {}, 'Parameters'),
      table(it.parameters.map((one) => row([one.name, type(one.schema), prose(one.description)]))));
  }
  if (it.requestBody) children.push(h('h4', {}, 'Body'), ...content(it.requestBody));
  const answers = Object.entries(it.responses).map(([status, answer]) => row([status, prose(answer.description),
    Object.entries(answer.content ?? {}).flatMap(([, { schema }]) => type(schema))]));
  children.push(h('h4', {}, 'Answers'), table(answers));
  return part(it.operationId, heading, ...children);
}

function show(api) {
  byId('title').textContent = `${api.info.title} ${api.info.version}: API`;
  byId('about').append(...prose(api.info.description));
  const all = Object.entries(api.paths).flatMap(([path, methods]) =>
    Object.entries(methods).map(([method, it]) => ({ path, method, it })));
  for (const tag of api.tags) {
    byId('operations').append(h('h2', {}, tag.name), h('p', { class: 'quiet' }, tag.description ?? ''),
      ...all.filter(({ it }) => it.tags?.includes(tag.name)).map(({ path, method, it }) => operation(path, method, it)));
  }
  for (const [name, schema] of Object.entries(api.components.schemas)) {
    const about = schema.description ? [h('p', {}, ...prose(schema.description))] : [];
    const rows = fields(schema);
    const body = rows.length ? table(rows) : h('p', {}, ...type({ ...schema, $ref: undefined }));
    byId('schemas').append(part(`schema-${name}`, [h('span', { class: 'path' }, name)], ...about, body));
  }
}

/** What a link leads to is shut otherwise. */
function open() {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target) {
    target.open = true;
    target.scrollIntoView();
  }
}

addEventListener('hashchange', open);
try {
  const answer = await fetch('openapi.json');
  if (!answer.ok) throw new Error(`the server answered ${answer.status}`);
  show(await answer.json());
  open();
} catch (error) {
  byId('notice').textContent = `The document could not be loaded: ${error.message}`;
  byId('notice').hidden = false;
}
