import { createSluiceBrowserClient } from "../../src/client/web.ts";
import type { SluiceBrowserClient } from "../../src/client/web.ts";
import { Newest, decodePosition, encodePosition } from "./telemetry.ts";

const recordBytes = 256 * 1024;
const nothingBytes = 64 * 1024 * 1024;
/** Between two positions, in milliseconds. */
const tickMs = 50;

function element<K extends keyof HTMLElementTagNameMap>(tag: K, id: string): HTMLElementTagNameMap[K] {
  const found = document.querySelector<HTMLElementTagNameMap[K]>(`${tag}#${id}`);
  if (found === null) throw new Error(`there is no ${tag} called ${id}`);
  return found;
}

/** Runs what a button asks for, and shows what it fails with. */
function onClick(button: HTMLButtonElement, output: HTMLOutputElement, run: () => Promise<void>): void {
  button.addEventListener("click", () => {
    output.value = "";
    run().catch((error: unknown) => (output.value = String(error)));
  });
}

function greetings({ greet }: SluiceBrowserClient): void {
  const output = element("output", "greetings");
  const names = (): { name: string }[] =>
    element("input", "names")
      .value.split(",")
      .map((name) => ({ name: name.trim() }));
  async function* each(): AsyncGenerator<{ name: string }> {
    for (const name of names()) yield await Promise.resolve(name);
  }
  const show = (greeting: string): void => {
    output.value += `${greeting}\n`;
  };
  const shapes: Record<string, () => Promise<void>> = {
    unary: async () => {
      show((await greet.greet(names()[0] ?? {})).greeting);
    },
    client: async () => {
      show((await greet.greetAll(each())).greeting);
    },
    server: async () => {
      const request = { ...names()[0], times: 3, interval: { nanos: 200_000_000 } };
      for await (const { greeting } of greet.greetRepeatedly(request)) show(greeting);
    },
    bidi: async () => {
      for await (const { greeting } of greet.greetEach(each())) show(greeting);
    },
  };
  for (const button of document.querySelectorAll<HTMLButtonElement>("button[data-shape]")) {
    const shape = shapes[button.dataset["shape"] ?? ""];
    if (shape !== undefined) onClick(button, output, shape);
  }
}

function upload({ data }: SluiceBrowserClient): void {
  const output = element("output", "uploaded");
  const progress = element("progress", "progress");
  onClick(element("button", "upload"), output, async () => {
    const blob = element("input", "file").files?.[0] ?? new Blob([new Uint8Array(nothingBytes)]);
    const appender = data.appender(`upload/${crypto.randomUUID()}`, { createIfMissing: true });
    progress.max = blob.size;
    progress.value = 0;
    const began = performance.now();
    for (let at = 0; at < blob.size; at += recordBytes) {
      const part = blob.slice(at, at + recordBytes);
      await appender.ready();
      // Each is acknowledged once it is stored: the bar shows what is safe, not what has left.
      appender.append([{ data: new Uint8Array(await part.arrayBuffer()) }]).then(
        () => (progress.value += part.size),
        () => undefined,
      );
    }
    await appender.close();
    const seconds = (performance.now() - began) / 1000;
    output.value = `stored ${blob.size} bytes, ${Math.round(blob.size / seconds / 1e6)} MB/s`;
  });
}

async function telemetry({ transport }: SluiceBrowserClient): Promise<void> {
  const output = element("output", "others");
  const carrier = await transport.carrier();
  if (carrier.kind === "fetch") {
    output.value = "There are no datagrams over fetch.";
    return;
  }
  const field = element("canvas", "field");
  const newest = new Newest();
  let here = { x: 0.5, y: 0.5 };
  let seq = 0;
  field.addEventListener("pointermove", ({ offsetX, offsetY }) => {
    here = { x: offsetX / field.clientWidth, y: offsetY / field.clientHeight };
  });
  const session = await carrier.transport.session();
  session.datagrams.onReceive((bytes) => {
    const position = decodePosition(bytes);
    if (position === undefined || !newest.take(position)) return;
    draw(field, newest);
    const { id, x, y } = position;
    output.value = `${id} is at ${x.toFixed(2)}, ${y.toFixed(2)}`;
  });
  // Sent again and again, moved or not, so that nobody has to ask for what was lost.
  const timer = setInterval(() => {
    session.datagrams.send(encodePosition({ id: 0, seq: ++seq, ...here }));
  }, tickMs);
  await session.closed;
  clearInterval(timer);
}

function draw(field: HTMLCanvasElement, { positions }: Newest): void {
  const context = field.getContext("2d");
  if (context === null) return;
  context.clearRect(0, 0, field.width, field.height);
  for (const { id, x, y } of positions.values()) {
    context.fillStyle = `hsl(${(id * 137) % 360} 70% 45%)`;
    context.beginPath();
    context.arc(x * field.width, y * field.height, 8, 0, 2 * Math.PI);
    context.fill();
  }
}

const { url, sha256 } = (await (await fetch("/sluice.json")).json()) as { url: string; sha256: string };
const client = createSluiceBrowserClient({
  url: location.origin,
  token: "sample",
  webTransport: { baseUrl: url, serverCertificateHashes: [sha256] },
});
const carrier = await client.transport.carrier();
element("b", "carrier").textContent =
  carrier.kind === "webtransport" ? "WebTransport" : `fetch, because ${carrier.because}`;
greetings(client);
upload(client);
telemetry(client).catch((error: unknown) => (element("output", "others").value = String(error)));
