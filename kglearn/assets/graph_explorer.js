// The graph explorer: draws what the Python side shows, and tells it what a person did.
// Names come out of documents. They are set through textContent and setAttribute, so that none can become markup.

const MARKERS = { s: [4, 45], D: [4, 0], "^": [3, -90], v: [3, 90], "<": [3, 180], ">": [3, 0], p: [5, -90], h: [6, -90], 8: [8, 22.5] };
const PLUS = [[1, 3], [1, 1], [3, 1], [3, -1], [1, -1], [1, -3], [-1, -3], [-1, -1], [-3, -1], [-3, 1], [-1, 1], [-1, 3]];
const RADIUS = 8, REST = 125;

function make(name, attributes = {}, text = null, namespace = "http://www.w3.org/1999/xhtml") {
  const node = document.createElementNS(namespace, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  if (text !== null) node.textContent = text;
  return node;
}

const draw = (name, attributes, text = null) => make(name, attributes, text, "http://www.w3.org/2000/svg");

function symbol(marker, color) {
  if (marker === "o") return draw("circle", { r: RADIUS, fill: color });
  let points = PLUS.map(([x, y]) => [x * 2.8, y * 2.8]);
  if (marker === "X") points = points.map(([x, y]) => [(x - y) * 0.71, (x + y) * 0.71]);
  const [count, turn] = MARKERS[marker] ?? [marker === "*" ? 10 : 4, marker === "*" ? -90 : 0];
  if (marker !== "P" && marker !== "X") {
    points = Array.from({ length: count }, (_, i) => {
      const angle = (turn + i * 360 / count) * Math.PI / 180, size = marker === "*" && i % 2 ? 4 : RADIUS * 1.2;
      return [size * Math.cos(angle) * (marker === "d" ? 0.6 : 1), size * Math.sin(angle)];
    });
  }
  return draw("polygon", { points: points.map((point) => point.map((value) => value.toFixed(1)).join(",")).join(" "), fill: color });
}

const short = (text) => (text.length > 26 ? text.slice(0, 25) + "…" : text);
const halfWidth = (node) => Math.max(RADIUS + 4, 3.6 * short(node.name).length);

// Fruchterman and Reingold's springs (1991) without chance: a new node starts beside a neighbour that has a place.
function settle(nodes, edges, places) {
  nodes.forEach((node, i) => {
    if (places.has(node.key)) return;
    const edge = edges.find((edge) => (edge.head === node.key && places.has(edge.tail)) || (edge.tail === node.key && places.has(edge.head)));
    const near = edge ? places.get(edge.head === node.key ? edge.tail : edge.head) : { x: 0, y: 0 };
    places.set(node.key, { x: near.x + 90 * Math.cos(2.4 * i), y: near.y + 90 * Math.sin(2.4 * i) });
  });
  const spots = nodes.map((node) => places.get(node.key)), widths = nodes.map(halfWidth);
  for (let round = 0; round < 300; round++) {
    const pushes = spots.map((spot) => ({ x: -0.012 * spot.x, y: -0.03 * spot.y }));
    const move = (a, b, x, y) => { a.x += x; a.y += y; b.x -= x; b.y -= y; };
    for (let i = 0; i < spots.length; i++) {
      for (let j = 0; j < i; j++) {
        const x = spots[i].x - spots[j].x || 0.1, y = spots[i].y - spots[j].y || 0.1 * (i - j);
        const push = 5000 / Math.max(400, x * x + y * y) / Math.hypot(x, y) * 6;
        move(pushes[i], pushes[j], x * push, y * push);
        const overlap = Math.min(widths[i] + widths[j] + 6 - Math.abs(x), 40 - Math.abs(y));
        if (overlap > 0) move(pushes[i], pushes[j], 0, Math.sign(y) * overlap * 0.4);
      }
    }
    for (const edge of edges) {
      const a = places.get(edge.head), b = places.get(edge.tail), far = Math.hypot(a.x - b.x, a.y - b.y) || 1;
      const pull = (REST - far) / far * 0.1, i = spots.indexOf(a), j = spots.indexOf(b);
      move(pushes[i], pushes[j], (a.x - b.x) * pull, (a.y - b.y) * pull);
    }
    const most = 25 * (1 - round / 300);
    spots.forEach((spot, i) => {
      const size = Math.hypot(pushes[i].x, pushes[i].y) || 1, step = Math.min(size, most) / size;
      spot.x += pushes[i].x * step;
      spot.y += pushes[i].y * step;
    });
  }
}

// How far from an entity a line in direction (x, y) ends, so that its arrow does not hide behind the name below.
function gap(node, x, y) {
  const beside = halfWidth(node) / Math.max(Math.abs(x), 0.001);
  return y > 0 && beside * y > RADIUS + 2 ? Math.min(30 / y, beside) : RADIUS + 5;
}

// Where a fact's line begins and ends, and its label stands; facts between the same two entities lie side by side.
function course(edge, places, edges, nodes) {
  const same = edges.filter((other) => [edge.head, edge.tail].sort().join() === [other.head, other.tail].sort().join());
  const a = places.get(edge.head), b = places.get(edge.tail), away = (same.indexOf(edge) - (same.length - 1) / 2) * 18;
  if (edge.head === edge.tail) {
    const y = a.y - 44 - 14 * same.indexOf(edge);
    return { path: `M${a.x - 7},${a.y - 9} C${a.x - 34},${y} ${a.x + 34},${y} ${a.x + 8},${a.y - 10}`, x: a.x, y: y + 8 };
  }
  const far = Math.hypot(b.x - a.x, b.y - a.y) || 1, x = (b.x - a.x) / far, y = (b.y - a.y) / far;
  const side = edge.head < edge.tail ? 1 : -1, bend = { x: (a.x + b.x) / 2 - y * away * side, y: (a.y + b.y) / 2 + x * away * side };
  const node = (key) => nodes.find((node) => node.key === key), out = gap(node(edge.head), x, y), back = gap(node(edge.tail), -x, -y);
  const from = `${a.x + x * out},${a.y + y * out}`, to = `${b.x - x * back},${b.y - y * back}`;
  return { path: `M${from} Q${bend.x * 2 - (a.x + b.x) / 2},${bend.y * 2 - (a.y + b.y) / 2} ${to}`, ...bend };
}

function pressable(node, name, act) {
  for (const [key, value] of Object.entries({ tabindex: 0, role: "button", "aria-label": name })) node.setAttribute(key, value);
  node.addEventListener("click", act);
  node.addEventListener("keydown", (event) => {
    if (event.key === "Enter" || event.key === " ") { event.preventDefault(); act(); }
  });
  return node;
}

let count = 0;

function render({ model, el }) {
  const id = `kge-arrow-${++count}`, places = new Map();
  const root = make("div", { class: "kge" }), stage = draw("svg", { class: "kge-stage", role: "group", "aria-label": "graph" });
  const form = make("form", { class: "kge-search", role: "search" }), list = make("ul", { class: "kge-matches" });
  const input = make("input", { type: "search", placeholder: "Search for a name", "aria-label": "Search for a name", autocomplete: "off" });
  const panel = make("aside", { class: "kge-panel", "aria-live": "polite" }), message = make("p", { class: "kge-message", role: "status" });
  const send = (content) => model.send(content);

  function drawGraph() {
    const { nodes = [], edges = [], focus = "", fact = [] } = model.get("view");
    const focused = root.getRootNode().activeElement?.getAttribute?.("data-id");
    settle(nodes, edges, places);
    const arrow = draw("marker", { id, viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 8, markerHeight: 8, orient: "auto", markerUnits: "userSpaceOnUse" });
    arrow.append(draw("path", { d: "M0,0 L8,4 L0,8 z" }));
    stage.replaceChildren(arrow, ...edges.map((edge) => drawFact(edge, edges, nodes, fact)), ...nodes.map((node) => drawEntity(node, focus)));
    fit(nodes);
    drawLegend(nodes);
    if (focused) [...stage.querySelectorAll("[data-id]")].find((node) => node.getAttribute("data-id") === focused)?.focus();
  }

  function drawFact(edge, edges, nodes, fact) {
    const { path, x, y } = course(edge, places, edges, nodes), name = (key) => nodes.find((node) => node.key === key)?.name ?? key;
    const triple = [edge.head, edge.relation, edge.tail], chosen = triple.every((part, i) => part === fact[i]);
    const group = draw("g", { class: `kge-fact${chosen ? " kge-chosen" : ""}${edge.belief < 0.5 ? " kge-doubted" : ""}`, "data-id": JSON.stringify(triple) });
    group.append(draw("path", { d: path, class: "kge-grip" }),
      draw("path", { d: path, class: "kge-line", "stroke-width": 0.6 + 1.2 * edge.belief, "marker-end": `url(#${id})` }),
      draw("text", { x, y: y + 3.5 }, short(edge.relation.replaceAll("_", " "))));
    const [head, relation, tail] = triple;
    return pressable(group, `${name(head)} ${relation.replaceAll("_", " ")} ${name(tail)}, belief ${edge.belief.toFixed(2)}`,
      () => send({ do: "fact", head, relation, tail }));
  }

  function drawEntity(node, focus) {
    const { x, y } = places.get(node.key), more = node.hidden ? `, ${node.hidden} more facts` : "";
    const group = draw("g", { class: `kge-entity${node.key === focus ? " kge-chosen" : ""}`, transform: `translate(${x},${y})`, "data-id": node.key });
    group.append(draw("title", {}, `${node.name} (${node.type})${more}`), draw("circle", { r: RADIUS + 5, class: "kge-ring" }),
      symbol(node.marker, node.color), draw("text", { y: RADIUS + 14 }, short(node.name)));
    if (node.hidden) group.append(draw("text", { x: RADIUS + 3, y: -RADIUS + 1, class: "kge-more" }, `+${node.hidden}`));
    let dragged = false;
    group.addEventListener("pointerdown", (event) => {
      const from = { x: event.clientX, y: event.clientY, left: places.get(node.key).x, top: places.get(node.key).y };
      const scale = stage.viewBox.baseVal.width / stage.getBoundingClientRect().width;
      dragged = false;
      const follow = (event) => {
        const x = event.clientX - from.x, y = event.clientY - from.y;
        dragged ||= Math.hypot(x, y) > 4;
        if (!dragged) return;
        places.set(node.key, { x: from.left + x * scale, y: from.top + y * scale });
        moved(node.key);
      };
      window.addEventListener("pointermove", follow);
      window.addEventListener("pointerup", () => window.removeEventListener("pointermove", follow), { once: true });
    });
    return pressable(group, `${node.name}, ${node.type}${more}`, () => { if (!dragged) send({ do: "expand", key: node.key }); dragged = false; });
  }

  function moved(key) {
    const { edges, nodes } = model.get("view");
    for (const group of stage.querySelectorAll("[data-id]")) {
      const own = group.getAttribute("data-id");
      if (own === key) group.setAttribute("transform", `translate(${places.get(key).x},${places.get(key).y})`);
      const edge = edges.find((edge) => JSON.stringify([edge.head, edge.relation, edge.tail]) === own);
      if (!edge || (edge.head !== key && edge.tail !== key)) continue;
      const { path, x, y } = course(edge, places, edges, nodes);
      for (const line of group.querySelectorAll("path")) line.setAttribute("d", path);
      group.querySelector("text").setAttribute("x", x);
      group.querySelector("text").setAttribute("y", y + 3.5);
    }
  }

  function fit(nodes) {
    const spots = nodes.map((node) => ({ ...places.get(node.key), half: halfWidth(node) }));
    const left = Math.min(-220, ...spots.map((spot) => spot.x - spot.half)) - 10, right = Math.max(220, ...spots.map((spot) => spot.x + spot.half)) + 10;
    const top = Math.min(-140, ...spots.map((spot) => spot.y)) - 40, bottom = Math.max(140, ...spots.map((spot) => spot.y)) + 40;
    stage.setAttribute("viewBox", `${left} ${top} ${right - left} ${bottom - top}`);
  }

  const legend = make("ul", { class: "kge-legend", "aria-label": "types" });
  function drawLegend(nodes) {
    const types = new Map(nodes.map((node) => [node.type, node]));
    legend.replaceChildren(...[...types.keys()].sort().map((type) => {
      const item = make("li"), icon = draw("svg", { viewBox: "-11 -11 22 22", width: 16, height: 16, "aria-hidden": "true" });
      icon.append(symbol(types.get(type).marker, types.get(type).color));
      item.append(icon, make("span", {}, type || "(no type)"));
      return item;
    }));
  }

  function drawPanel() {
    const { title = "", notes = [], facts = [], pieces = [] } = model.get("panel"), list = make("ul", { class: "kge-facts" });
    for (const fact of facts) {
      const item = make("li"), button = make("button", { type: "button" });
      button.append(make("span", {}, fact.label), make("span", { class: "kge-belief" }, fact.belief.toFixed(2)));
      button.addEventListener("click", () => send({ do: "fact", head: fact.head, relation: fact.relation, tail: fact.tail }));
      item.append(button);
      list.append(item);
    }
    panel.replaceChildren(make("h3", {}, title), ...notes.map((note) => make("p", { class: "kge-note" }, note)), list, ...pieces.map(drawPiece));
  }

  function drawPiece(piece) {
    const box = make("div", { class: `kge-piece${piece.polarity < 0 ? " kge-against" : ""}` }), sentence = make("blockquote");
    box.append(make("p", { class: "kge-note" }, piece.note));
    for (const [text, role] of piece.segments) sentence.append(role ? make("mark", { class: `kge-${role}` }, text) : make("span", {}, text));
    if (piece.segments.length) box.append(sentence);
    return box;
  }

  function drawMatches() {
    list.replaceChildren(...model.get("matches").map((match) => {
      const item = make("li"), button = make("button", { type: "button" });
      button.append(make("span", {}, match.by ? `${match.by}: ${match.name}` : match.name), make("span", { class: "kge-type" }, match.type));
      button.addEventListener("click", () => choose(match.key));
      item.append(button);
      return item;
    }));
  }

  function choose(key) {
    input.value = "";
    send({ do: "start", key });
    input.focus();
  }

  let timer;
  input.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => send({ do: "search", text: input.value }), 120);
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    clearTimeout(timer);
    if (input.value.trim()) send({ do: "find", text: input.value });
  });
  form.addEventListener("keydown", (event) => {
    const stops = [input, ...list.querySelectorAll("button")], at = stops.indexOf(root.getRootNode().activeElement);
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (event.key === "Escape") { input.value = ""; send({ do: "search", text: "" }); input.focus(); }
    if (!step || at < 0) return;
    event.preventDefault();
    stops[Math.min(Math.max(at + step, 0), stops.length - 1)].focus();
  });

  const drawMessage = () => { message.textContent = model.get("message"); };
  const parts = { view: drawGraph, panel: drawPanel, matches: drawMatches, message: drawMessage };
  form.append(input, list);
  const left = make("div", { class: "kge-left" });
  left.append(form, stage, legend, message);
  root.append(left, panel);
  el.append(root);
  for (const [part, redraw] of Object.entries(parts)) { redraw(); model.on(`change:${part}`, redraw); }
  return () => { for (const [part, redraw] of Object.entries(parts)) model.off(`change:${part}`, redraw); };
}

export default { render };
