// Builds and changes elements. Text goes in as text, never as markup; what is already so is not touched, so that a page
// of thousands of nodes can be drawn again every second.

const SVG = "http://www.w3.org/2000/svg";
const kept = new WeakMap();

/**
 * Makes an element.
 * @param {string} tag its name
 * @param {Record<string, unknown>} [props] attributes; `on…` are listeners, `text` is its text, false and undefined are left out
 * @param {...(Node|string|null|undefined)} children what goes into it
 * @returns {HTMLElement} the element
 */
export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  dress(node, props);
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
}

/**
 * Makes an element of a drawing.
 * @param {string} tag its name
 * @param {Record<string, unknown>} [props] as for `el`
 * @param {...Node} children what goes into it
 * @returns {SVGElement} the element
 */
export function draw(tag, props = {}, ...children) {
  const node = document.createElementNS(SVG, tag);
  dress(node, props);
  node.append(...children);
  return node;
}

function dress(node, props) {
  for (const [name, value] of Object.entries(props)) {
    if (value === undefined || value === false || value === null) continue;
    if (name === "text") node.textContent = value;
    else if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else node.setAttribute(name, value === true ? "" : String(value));
  }
}

/**
 * A shape from the page's own set, which says the same as the word beside it.
 * @param {string} name such as `active`
 * @returns {SVGElement} the drawing, hidden from screen readers
 */
export function shape(name) {
  return draw("svg", { class: "shape", "aria-hidden": "true" }, draw("use", { href: `#shape-${name}` }));
}

/**
 * Changes a shape into another one.
 * @param {SVGElement} node from `shape`
 * @param {string} name as for `shape`
 */
export function setShape(node, name) {
  attr(node.firstChild, "href", `#shape-${name}`);
}

/**
 * Sets a node's text if it differs.
 * @param {Node} node the element
 * @param {string|number} value its new text
 */
export function text(node, value) {
  const wanted = String(value);
  if (node.textContent !== wanted) node.textContent = wanted;
}

/**
 * Sets or removes an attribute if it differs.
 * @param {Element} node the element
 * @param {string} name the attribute
 * @param {string|number|boolean|undefined} value removed when undefined or false
 */
export function attr(node, name, value) {
  if (value === undefined || value === false) {
    if (node.hasAttribute(name)) node.removeAttribute(name);
    return;
  }
  const wanted = value === true ? "" : String(value);
  if (node.getAttribute(name) !== wanted) node.setAttribute(name, wanted);
}

/**
 * Sets a custom property of an element's style if it differs.
 * @param {HTMLElement} node the element
 * @param {string} name such as `--size`
 * @param {number} value rounded to a thousandth
 */
export function size(node, name, value) {
  const wanted = String(Math.round(value * 1000) / 1000);
  if (node.style.getPropertyValue(name) !== wanted) node.style.setProperty(name, wanted);
}

/**
 * Shows or hides an element.
 * @param {HTMLElement} node the element
 * @param {boolean} visible whether it is to be seen
 */
export function show(node, visible) {
  if (node.hidden === visible) node.hidden = !visible;
}

/**
 * Sets a line, which is hidden when there is nothing to say.
 * @param {HTMLElement} node the element
 * @param {string} value its text; may be empty
 */
export function line(node, value) {
  show(node, value !== "");
  text(node, value);
}

/**
 * Sets a sentence in which some parts are strong.
 * @param {HTMLElement} node the element
 * @param {Array<string|[string]>} parts plain ones, and strong ones in brackets
 */
export function rich(node, parts) {
  const key = JSON.stringify(parts);
  if (kept.get(node) === key) return;
  kept.set(node, key);
  node.replaceChildren(...parts.map((part) => (typeof part === "string" ? part : el("strong", { text: part[0] }))));
}

/**
 * Makes the children of an element follow a list, keeping and moving what is there already.
 * @template T
 * @param {HTMLElement} parent it has no other children
 * @param {T[]} items in order
 * @param {(item: T) => string|number} key what tells items apart
 * @param {(item: T) => {root: HTMLElement, update?: (item: T) => void, remove?: () => void}} make makes the view of a new one
 * @returns {Map<string|number, object>} the views by key
 */
export function keyed(parent, items, key, make) {
  const views = kept.get(parent) ?? new Map();
  kept.set(parent, views);
  const wanted = new Set(items.map(key));
  for (const [name, view] of views) {
    if (wanted.has(name)) continue;
    view.remove?.();
    view.root.remove();
    views.delete(name);
  }
  let place = parent.firstChild;
  for (const item of items) {
    const name = key(item);
    let view = views.get(name);
    if (!view) {
      view = make(item);
      views.set(name, view);
    }
    if (view.root === place) place = place.nextSibling;
    else parent.insertBefore(view.root, place);
    view.update?.(item);
  }
  return views;
}

/**
 * A button.
 * @param {string} label its text
 * @param {() => void} act what a click does
 * @param {string} [kind] a class, such as `plain` or `danger`
 * @returns {HTMLButtonElement} the button
 */
export function button(label, act, kind = "") {
  return el("button", { type: "button", class: kind, onclick: act, text: label });
}
