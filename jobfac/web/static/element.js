// Everything is put in as text, never as HTML.

export function element(name, attributes, ...children) {
  const made = document.createElement(name);
  Object.entries(attributes).forEach(([key, value]) => made.setAttribute(key, value));
  made.append(...children);
  return made;
}

export function table(rows, titles = []) {
  const line = (kind, cells) => element("tr", {}, ...cells.map((cell) => element(kind, {}, cell)));
  const head = titles.length ? [element("thead", {}, line("th", titles))] : [];
  return element("table", {}, ...head, element("tbody", {}, ...rows.map((cells) => line("td", cells))));
}
