// Calls of the service. Every call is timed, and the last list can be written as a curl command.

export class Problem extends Error {}

export class Service {
  constructor() {
    this.milliseconds = [];
    this.took = 0;
    this.last = null;
  }

  async call(method, path, body) {
    const began = performance.now();
    const sent = body === undefined ? {} : { headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
    const answer = await fetch(path, { method, ...sent }).catch(() => {
      throw new Problem("The service does not answer.");
    });
    const document = await answer.json();
    this.took = performance.now() - began;
    if (!answer.ok) throw new Problem(document.detail ?? document.title ?? `status ${answer.status}`);
    return document;
  }

  async list(body) {
    this.last = body;
    const answer = await this.call("POST", "/v1/recommendations", body);
    this.milliseconds = [...this.milliseconds.slice(-49), this.took];
    return answer;
  }

  items(query) {
    return this.call("GET", `/v1/items?${new URLSearchParams(query)}`);
  }

  // Milliseconds of the last call and the median of the last fifty.
  latency() {
    const sorted = [...this.milliseconds].sort((a, b) => a - b);
    return { last: this.milliseconds.at(-1), median: sorted[sorted.length >> 1] };
  }

  curl() {
    if (this.last === null) return "";
    const text = JSON.stringify(this.last).replaceAll("'", String.raw`'\''`);
    return `curl -s '${location.origin}/v1/recommendations' -H 'content-type: application/json' -d '${text}'`;
  }
}

export function identity() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
