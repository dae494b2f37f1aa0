import type { Socket } from "node:net";
import { guarded } from "../async/guard.ts";
import type { OnUnexpected } from "../async/guard.ts";

/** Runs what an event of a connection asks for. What it throws is reported, and ends the connection. */
export function endingSocket(onUnexpected: OnUnexpected, socket: Socket, work: () => void): void {
  const fail = (error: unknown): void => {
    onUnexpected(error);
    socket.destroy();
  };
  guarded(fail, work)();
}

/** Returns the listener, as `endingSocket` runs it. */
export function ofSocket<S extends Socket>(
  onUnexpected: OnUnexpected,
  listener: (socket: S) => void,
): (socket: S) => void {
  return (socket) => {
    endingSocket(onUnexpected, socket, () => {
      listener(socket);
    });
  };
}
