import { createSocket } from "node:dgram";
import type { Socket } from "node:dgram";
import { once } from "node:events";
import { random } from "./cutting-proxy.ts";

/** A UDP proxy that loses and reorders datagrams, in both directions. */
export interface UdpProxy {
  readonly port: number;
  readonly lost: number;
  readonly reordered: number;
  /** From now on nothing passes. */
  silence(): void;
  close(): void;
}

/** Of all datagrams, between 0 and 1. */
export interface Weather {
  readonly loss: number;
  readonly reordering: number;
}

/** How long a datagram is held back if no other overtakes it, in milliseconds. */
const heldMs = 5;

interface Held {
  /** Datagrams that still overtake it. */
  before: number;
  readonly send: () => void;
}

/** The same seed makes the same choices, in the order of the datagrams. */
export async function createUdpProxy(target: number, seed: number, weather: Weather): Promise<UdpProxy> {
  const next = random(seed);
  const front = createSocket("udp4");
  /** By the client's port: to the server it looks like that many clients. */
  const backs = new Map<number, Socket>();
  let lost = 0;
  let reordered = 0;
  let silent = false;

  /** One direction of one client. */
  function lane(send: (datagram: Buffer) => void): (datagram: Buffer) => void {
    const held = new Set<Held>();
    const release = (one: Held): void => {
      if (held.delete(one) && !silent) one.send();
    };
    return (datagram) => {
      if (silent) return;
      if (next() < weather.loss) {
        lost++;
        return;
      }
      if (next() < weather.reordering) {
        reordered++;
        const one = {
          before: 1 + Math.floor(next() * 3),
          send: () => {
            send(datagram);
          },
        };
        held.add(one);
        setTimeout(release, heldMs, one).unref();
        return;
      }
      send(datagram);
      for (const one of held) if (--one.before === 0) release(one);
    };
  }

  const lanes = new Map<number, (datagram: Buffer) => void>();
  front.on("message", (datagram, { port }) => {
    let up = lanes.get(port);
    if (up === undefined) {
      const back = createSocket("udp4");
      backs.set(port, back);
      const down = lane((answer) => {
        front.send(answer, port, "127.0.0.1");
      });
      back.on("message", down).on("error", () => undefined);
      up = lane((sent) => {
        back.send(sent, target, "127.0.0.1");
      });
      lanes.set(port, up);
    }
    up(datagram);
  });
  front.on("error", () => undefined);
  front.bind(0, "127.0.0.1");
  await once(front, "listening");
  return {
    port: front.address().port,
    get lost() {
      return lost;
    },
    get reordered() {
      return reordered;
    },
    silence() {
      silent = true;
    },
    close() {
      silent = true;
      front.close();
      for (const back of backs.values()) back.close();
    },
  };
}
