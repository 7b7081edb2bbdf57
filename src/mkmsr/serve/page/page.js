// The demo page: a visit that one makes oneself, and the lists that the service answers with.

import { card, find, legend, make, moveInto, nameOf, operationLabel, partsBar, picture, readable, shareBar } from "/page/elements.js";
import { Problem, Service, identity } from "/page/service.js";

const LENGTH = 10;
const PAGE = 24;
const LOOK = /^(click|view|look|play|detail)/i;
const BUY = /order|buy|purchase|transaction|paid/i;
const FIRST_BUTTONS = [LOOK, /cart|basket/i, /favo|wish|like|follow/i, BUY];
const OPERATIONS_SHOWN = 4;

const service = new Service();
const products = new Map();
let shop = null; // what the service says of itself
let operations = []; // those that get a button
let visit = []; // {id, item, operation, time, recommendation}
let session = identity();
let isStored = false; // whether the service holds this visit
let before = new Map(); // places in the list before
let listed = { id: null, model: null };
let offset = 0;
let explains = true; // whether the model gives reasons, as far as is known
let waiting = Promise.resolve();

// Calls follow one another, so that a quick visitor's events stay in order.
function then(step) {
  const problem = find("problem");
  const done = () => (problem.hidden = true);
  waiting = waiting.then(step).then(done, (error) => {
    problem.textContent = error instanceof Problem ? error.message : `Something went wrong in this page: ${error.message}`;
    problem.hidden = false;
  });
  return waiting;
}

function know(product) {
  products.set(product.item, { ...products.get(product.item), ...product });
  return products.get(product.item);
}

const known = (item) => products.get(item) ?? { item, display: {}, attributes: {} };

function act(item, operation, recommendation) {
  const event = { id: identity(), item, operation, time: Date.now() / 1000 };
  if (recommendation !== undefined) event.recommendation = recommendation;
  visit.push(event);
  showVisit();
  then(() => refresh([event]));
}

function showVisit() {
  find("visit-empty").hidden = visit.length > 0;
  find("events").replaceChildren(
    ...visit.map((event) => {
      const name = nameOf(known(event.item));
      const remove = make("button", { type: "button", className: "small", "aria-label": `Remove: ${event.operation} ${name}` }, "×");
      remove.addEventListener("click", () => removeEvent(event));
      const text = make("span", {}, make("b", {}, event.operation), " ", name);
      return make("li", {}, picture(known(event.item)), text, remove);
    }),
  );
  find("events").scrollLeft = find("events").scrollWidth;
  showNewItemForm();
}

function removeEvent(event) {
  const place = visit.indexOf(event);
  visit.splice(place, 1);
  showVisit();
  const buttons = find("events").querySelectorAll("button");
  (buttons[Math.min(place, buttons.length - 1)] ?? find("leave")).focus();
  then(async () => {
    await forget();
    await refresh(visit);
  });
}

// A stored visit cannot lose one event: it is erased, and what is left is sent again.
async function forget() {
  if (isStored) await service.call("DELETE", `/v1/sessions/${session}`);
  isStored = false;
  session = identity();
}

function question() {
  const asked = { k: LENGTH };
  if (find("hide-seen").checked) asked.exclude_session = true;
  if (find("hide-bought").checked) asked.exclude_operations = shop.operations.filter((each) => BUY.test(each));
  if (find("filter-list").checked && find("value").value) asked.where = [`${find("relation").value}=${find("value").value}`];
  return asked;
}

const bare = (events) => events.map(({ item, operation }) => ({ item, operation }));

async function refresh(added = []) {
  const asked = question();
  const own = find("consent").checked
    ? { session, consent: true, events: isStored ? bare(visit.filter((each) => !added.includes(each))) : [], append: isStored ? added : visit }
    : { events: bare(visit) };
  const answer = await explained({ ...asked, ...own });
  isStored ||= find("consent").checked && visit.length > 0;
  listed = { id: find("consent").checked ? answer.id : undefined, model: answer.model };
  showList(answer);
  if (!find("second").hidden) await showSecond(asked, answer);
  await showLive();
}

// Not every model gives reasons: one that refuses is asked without them from then on.
async function explained(asked) {
  if (explains) {
    try {
      return await service.list({ ...asked, explain: true });
    } catch (error) {
      if (!(error instanceof Problem) || !error.message.includes("cannot be explained")) throw error;
      explains = false;
    }
  }
  return service.list(asked);
}

function showList(answer) {
  answer.items.forEach(know);
  const places = new Map(answer.items.map((each) => [each.item, each.rank]));
  moveInto(find("recommendations"), answer.items.map((each) => listCard(each, answer)));
  const parts = Object.keys(answer.items[0]?.reason?.parts ?? {}).filter((part) => answer.items.some((each) => each.reason?.parts[part] > 0.005));
  find("legend").replaceChildren(...legend(parts));
  find("notes").textContent = answer.notes.join(" ");
  const { last, median } = service.latency();
  find("latency").textContent = `${answer.model} answered in ${last.toFixed(0)} ms (median ${median.toFixed(0)} ms)`;
  find("curl").textContent = service.curl();
  const first = answer.items[0];
  const reason = first?.reason ? `: ${sentenceOf(first)}` : "";
  find("news").textContent = first ? `New list. First: ${nameOf(first)}${reason}.` : "The list is empty.";
  before = places;
}

const sentenceOf = (each) => readable(each.reason.sentence, each.item, [...visit.map((event) => known(event.item)), ...products.values()]);

function listCard(each, answer) {
  const more = [];
  if (each.reason) {
    more.push(make("div", { className: "why" }, partsBar(each.reason.parts), make("p", { className: "note" }, sentenceOf(each))));
    more.push(details(each));
  }
  const element = card(each, operations, (operation) => act(each.item, operation, answer.id), ...more);
  element.prepend(make("span", { className: "rank" }, String(each.rank), movement(each)));
  return element;
}

function movement({ item, rank }) {
  if (before.size === 0 || before.get(item) === rank) return null;
  if (!before.has(item)) return make("span", { className: "move up" }, "new");
  const steps = before.get(item) - rank;
  const told = `${steps > 0 ? "up" : "down"} ${Math.abs(steps)}`;
  return make("span", { className: `move ${steps > 0 ? "up" : "down"}`, "aria-label": told }, `${steps > 0 ? "▲" : "▼"}${Math.abs(steps)}`);
}

// The exact reasons are asked for when somebody wants to know.
function details(each) {
  const box = make("details", { className: "exact" }, make("summary", {}, "exactly why"));
  box.addEventListener("toggle", () => {
    if (!box.open || box.children.length > 1) return;
    then(async () => {
      const answer = await service.call("POST", "/v1/explanations", { items: [each.item], events: bare(visit) });
      box.append(make("ul", { className: "note" }, ...reasons(answer.items[0]).map((text) => make("li", {}, text))));
    });
  });
  return box;
}

function reasons(found) {
  const named = (item) => nameOf(known(item));
  const told = [];
  const strongest = [...(found.events ?? [])].filter((event) => event.effect != null).sort((a, b) => b.effect - a.effect);
  for (const event of strongest.slice(0, 2).filter((each) => each.effect > 0)) {
    told.push(`without "${event.operation} ${named(event.item)}" its chance would be ${Math.exp(event.effect).toFixed(1)} times smaller`);
  }
  for (const each of (found.attributes ?? []).slice(0, 3)) {
    const shared = each.shared_with?.length ? `, shared with ${named(each.shared_with[0])}` : "";
    told.push(`${each.relation}: ${each.value}${shared}`);
  }
  if (found.voters) told.push(`${found.voters} similar ${found.voters === 1 ? "visit has" : "visits have"} it`);
  if (shop.simulated) {
    for (const each of (found.sessions ?? []).slice(0, 3)) {
      const items = [...each.shared_items, ...(each.alike_items ?? [])].slice(0, 4).map(named);
      told.push(`a simulated visitor looked at ${items.join(", ")} and at this`);
    }
  }
  return told;
}

async function showSecond(asked, first) {
  const answer = await service.call("POST", "/v1/recommendations", { ...asked, events: bare(visit), model: find("second-model").value });
  answer.items.forEach(know);
  const both = answer.items.filter((each) => first.items.some((other) => other.item === each.item)).length;
  find("second-note").textContent = `${answer.model}: ${both} of ${answer.items.length} products are in both lists.`;
  moveInto(
    find("second-list"),
    answer.items.map((each) => {
      const element = card(each, operations, (operation) => act(each.item, operation));
      element.prepend(make("span", { className: "rank" }, String(each.rank)));
      return element;
    }),
  );
}

async function showShop(more = false) {
  offset = more ? offset + PAGE : 0;
  const query = { search: find("words").value, offset, limit: PAGE };
  if (find("value").value) Object.assign(query, { relation: find("relation").value, value: find("value").value });
  const page = await service.items(query);
  const cards = page.items.map(know).map((each) => card(each, operations, (operation) => act(each.item, operation)));
  if (more) find("products").append(...cards);
  else find("products").replaceChildren(...cards);
  const shown = Math.min(offset + PAGE, page.total);
  find("total").textContent = `${shown.toLocaleString("en")} of ${page.total.toLocaleString("en")} products`;
  find("more").hidden = shown >= page.total;
  if (more) cards[0]?.querySelector("button")?.focus();
}

async function offerValues() {
  const relation = find("relation").value;
  const page = await service.items({ limit: 200 });
  const values = new Set(page.items.flatMap((each) => each.attributes[relation] ?? []));
  find("values").replaceChildren(...[...values].sort().map((value) => make("option", { value })));
}

function showNewItemForm() {
  const last = visit.length ? known(visit.at(-1).item) : [...products.values()][0];
  if (!last) return;
  const shown = shop.relations.slice(0, 4).map((relation) => {
    const input = make("input", { value: last.attributes?.[relation]?.[0] ?? "", maxLength: 100 });
    input.dataset.relation = relation;
    return make("label", {}, `${relation} `, input);
  });
  find("new-attributes").replaceChildren(...shown);
}

async function sell() {
  const item = `new-${identity().slice(0, 8)}`;
  const attributes = {};
  for (const input of find("new-attributes").querySelectorAll("input")) {
    if (input.value) attributes[input.dataset.relation] = input.value;
  }
  await service.call("POST", "/v1/catalogue/items", { items: [{ item, attributes, display: { name: find("new-name").value } }] });
  const long = await service.call("POST", "/v1/recommendations", { events: bare(visit), k: 1000, fields: [] });
  const found = long.items.find((each) => each.item === item);
  const place = found ? `It is number ${found.rank} of your list already.` : "It is not among the first 1,000 of your list: look at something like it.";
  find("new-place").textContent = `${find("new-name").value} is on sale. ${place}`;
  await refresh();
  await showShop();
}

async function showLive() {
  shop = await service.call("GET", "/v1/service");
  const percent = (share) => `${(100 * share).toFixed(0)} %`;
  const told = Object.entries(shop.live).flatMap(([model, live]) => {
    const rates = Object.entries(live.hit_rate).map(([metric, rate]) => {
      const offline = rate.offline == null ? "" : `; ${percent(rate.offline)} on the test data`;
      const found = `${percent(rate.live)} of ${rate.lists} (95 %: ${rate.interval.map(percent).join(" to ")}${offline})`;
      return shareBar(`in the first ${metric.split("@")[1]}`, rate.live, found);
    });
    const places = Object.entries(live.by_place).map(([place, share]) => shareBar(`chosen at place ${place}`, share, percent(share)));
    const kinds = Object.entries(live.by_operation).map(([operation, share]) => shareBar(`chosen with ${operationLabel(operation)}`, share, percent(share)));
    const caption = make("caption", {}, `${model}: lists shown ${live.lists}, products chosen from them ${live.clicks}`);
    return [make("table", {}, caption, make("tbody", {}, ...rates, ...places, ...kinds)), live.drift ? make("p", {}, live.drift) : ""];
  });
  const split = shop.ab?.split ? `Sessions are split between ${shop.ab.models.join(" and ")}: ${shop.ab.verdict}.` : "";
  find("live").replaceChildren(...told, make("p", {}, split));
}

function listen() {
  const onChange = (id, step) => find(id).addEventListener("change", () => then(step));
  ["hide-seen", "hide-bought", "filter-list"].forEach((id) => onChange(id, () => refresh()));
  onChange("consent", async () => {
    await forget();
    await refresh();
  });
  onChange("second-model", () => refresh());
  onChange("relation", offerValues);
  const onSubmit = (id, step) => find(id).addEventListener("submit", (event) => {
    event.preventDefault();
    then(step);
  });
  onSubmit("search", async () => {
    await showShop();
    if (find("filter-list").checked) await refresh();
  });
  onSubmit("new-item", sell);
  find("more").addEventListener("click", () => then(() => showShop(true)));
  find("leave").addEventListener("click", () => {
    visit = [];
    showVisit();
    then(async () => {
      await forget();
      await refresh();
    });
  });
  find("copy").addEventListener("click", () => then(async () => {
    if (!navigator.clipboard) return getSelection().selectAllChildren(find("curl")); // a page without https may not copy
    await navigator.clipboard.writeText(find("curl").textContent);
    find("news").textContent = "The command is copied.";
  }));
}

async function begin() {
  shop = await service.call("GET", "/v1/service");
  const usual = FIRST_BUTTONS.map((kind) => shop.operations.find((each) => kind.test(each))).filter(Boolean);
  operations = [...new Set([...usual, ...shop.operations])].slice(0, OPERATIONS_SHOWN);
  const { bundle, models } = shop;
  find("about").textContent = `${bundle.name}: ${bundle.items.toLocaleString("en")} products, ranked by ${bundle.model}. ${shop.simulated ? "The shop is simulated: no real visitor is in it." : ""}`;
  find("consent").checked = shop.simulated;
  find("hide-bought-row").hidden = !shop.operations.some((each) => BUY.test(each));
  find("relation").replaceChildren(...shop.relations.map((relation) => make("option", {}, relation)));
  find("second-model").replaceChildren(...models.map((model, place) => make("option", { selected: place === 1 }, model)));
  find("second").hidden = models.length < 2;
  listen();
  await showShop();
  await offerValues();
  showVisit();
  await refresh();
}

then(begin);
