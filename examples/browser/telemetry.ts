/**
 * Positions in datagrams. Each says where somebody is, whole and by itself, with
 * a number that grows: one that is lost is made up for by the next, and one that
 * comes late is dropped.
 */
import type { WebTransportSession } from "../../src/index.ts";

export interface Position {
  /** Whose it is. The server says so; what a page says of it is not believed. */
  readonly id: number;
  readonly seq: number;
  /** From 0 to 1. */
  readonly x: number;
  readonly y: number;
}

const positionBytes = 16;

export function encodePosition({ id, seq, x, y }: Position): Uint8Array<ArrayBuffer> {
  const view = new DataView(new ArrayBuffer(positionBytes));
  view.setUint32(0, id);
  view.setUint32(4, seq);
  view.setFloat32(8, x);
  view.setFloat32(12, y);
  return new Uint8Array(view.buffer);
}

/** Undefined if it is none. */
export function decodePosition(bytes: Uint8Array): Position | undefined {
  if (bytes.byteLength !== positionBytes) return undefined;
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  return { id: view.getUint32(0), seq: view.getUint32(4), x: view.getFloat32(8), y: view.getFloat32(12) };
}

/** The newest position of each. */
export class Newest {
  readonly positions = new Map<number, Position>();

  /** False if a newer one is known. */
  take(position: Position): boolean {
    const known = this.positions.get(position.id);
    if (known !== undefined && known.seq >= position.seq) return false;
    this.positions.set(position.id, position);
    return true;
  }
}

/** Tells each page where the others are. */
export class TelemetryHub {
  readonly #sessions = new Set<WebTransportSession>();
  readonly #newest = new Newest();
  #nextId = 1;

  join(session: WebTransportSession): void {
    const id = this.#nextId++;
    this.#sessions.add(session);
    session.signal.addEventListener("abort", () => {
      this.#sessions.delete(session);
      this.#newest.positions.delete(id);
    });
    session.onDatagram((bytes) => {
      const said = decodePosition(bytes);
      if (said === undefined || !this.#newest.take({ ...said, id })) return;
      const datagram = encodePosition({ ...said, id });
      for (const other of this.#sessions) if (other !== session) other.sendDatagram(datagram);
    });
  }
}
