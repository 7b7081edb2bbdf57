// What the page is made of. Texts of a shop only ever become text: nothing here reads markup.

export const find = (id) => document.getElementById(id);

export function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name in element && name !== "list") element[name] = value;
    else element.setAttribute(name, value);
  }
  element.append(...children.filter((child) => child !== null));
  return element;
}

const PARTS = {
  explore: "fits the visit",
  copy: "in the visit already",
  neighbours: "similar visitors chose it",
  earlier: "from an earlier visit",
};

const LABELS = { click: "Look", view: "Look", cart: "Add to cart", favourite: "Favourite", order: "Order" };

// `add_to_basket` reads "Add to basket".
const spelt = (operation) => operation.slice(0, 1).toUpperCase() + operation.slice(1).replace(/[_-]+/g, " ");

export const operationLabel = (operation) => LABELS[operation] ?? spelt(operation);

export const nameOf = (product) => product.display?.name ?? product.item;

export function picture(product) {
  const source = product.display?.image;
  const letter = make("span", { className: "letter", "aria-hidden": "true" }, nameOf(product).slice(0, 1).toUpperCase());
  if (!source) return letter;
  const image = make("img", { src: source, alt: "", width: 56, height: 56, loading: "lazy" });
  image.addEventListener("error", () => image.replaceWith(letter));
  return image;
}

// A product with a button for each operation; `onAct(operation)` is called when one is pressed.
export function card(product, operations, onAct, ...more) {
  const name = nameOf(product);
  const isRange = (value) => /^[-+.\de]*\.\.[-+.\de]*$/.test(value);  // of a price that is shown as it is
  const values = Object.values(product.attributes ?? {}).flat().filter((value) => !isRange(value)).slice(0, 4);
  const details = [make("span", { className: "name" }, name)];
  if (product.display?.price) details.push(make("span", { className: "price" }, product.display.price));
  if (values.length) details.push(make("span", { className: "note" }, values.join(" · ")));
  const buttons = operations.map((operation) => {
    const label = operationLabel(operation);
    const button = make("button", { type: "button", className: "small", "aria-label": `${label}: ${name}` }, label);
    button.dataset.operation = operation;
    button.addEventListener("click", () => onAct(operation));
    return button;
  });
  const element = make("li", { className: "card" });
  element.dataset.item = product.item;
  element.append(picture(product), make("div", { className: "text" }, ...details), ...more);
  element.append(make("div", { className: "buttons" }, ...buttons));
  return element;
}

// The shares of a score as one bar in several colours.
export function partsBar(parts) {
  const shares = Object.entries(parts).filter(([, share]) => share > 0.005);
  const told = shares.map(([part, share]) => `${PARTS[part] ?? part} ${Math.round(100 * share)} %`).join(", ");
  const bar = make("div", { className: "bar", role: "img", "aria-label": told, title: told });
  for (const [part, share] of shares) {
    const piece = make("span", { className: `part ${part}` });
    piece.style.width = `${100 * share}%`;
    bar.append(piece);
  }
  return bar;
}

export function legend(parts) {
  return parts.map((part) => make("li", {}, make("span", { className: `part ${part}` }), PARTS[part] ?? part));
}

export function shareBar(label, share, told) {
  const piece = make("span", { className: "part explore" });
  piece.style.width = `${100 * share}%`;
  return make("tr", {}, make("th", { scope: "row" }, label), make("td", {}, make("div", { className: "bar" }, piece)), make("td", {}, told));
}

// A sentence of the service with names in place of ids.
export function readable(sentence, item, products) {
  let text = sentence.startsWith(`${item}: `) ? sentence.slice(item.length + 2) : sentence;
  for (const product of products) {
    const name = nameOf(product);
    if (name === product.item || /^\d{1,3}$/.test(product.item)) continue;
    const id = product.item.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
    text = text.replace(new RegExp(`(?<![\\w-])${id}(?![\\w-])`, "gu"), () => name);
  }
  return text.replace(/ \((explore|copy|neighbours) [^)]*\)$/, "");
}

// Replaces the children of a list; those that stay glide from their old places to the new ones, and keep the focus.
export function moveInto(parent, children) {
  const before = new Map([...parent.children].map((child) => [child.dataset.item, child.getBoundingClientRect()]));
  const focused = parent.contains(document.activeElement) ? document.activeElement : null;
  const owner = focused?.closest(".card")?.dataset.item;
  parent.replaceChildren(...children);
  if (focused) {
    const same = children.find((child) => child.dataset.item === owner) ?? children[0];
    const buttons = [...(same?.querySelectorAll("button") ?? [])];
    (buttons.find((button) => button.dataset.operation === focused.dataset.operation) ?? buttons[0])?.focus({ preventScroll: true });
  }
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) return;
  for (const child of children) {
    const old = before.get(child.dataset.item);
    const now = child.getBoundingClientRect();
    const keyframes = old
      ? [{ transform: `translate(${old.left - now.left}px, ${old.top - now.top}px)` }, { transform: "none" }]
      : [{ opacity: 0 }, { opacity: 1 }];
    child.animate(keyframes, { duration: 350, easing: "ease-out" });
  }
}
