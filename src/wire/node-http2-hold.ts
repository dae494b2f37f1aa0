import type { Http2Session } from "node:http2";

/**
 * Keeps what Node has of a session beneath JavaScript from being collected until its streams have gone. To be called once
 * for each session that carries what a stranger sends.
 *
 * Node destroys a stream whose headers were wrong, which no event tells of, in the turn after; if the session ends in the
 * same turn and is collected first, Node ends the process: "Assertion failed: (current_nghttp2_memory_) == (0)" (seen with
 * 24.21; test/hostile/collected-session makes it happen). The listener refers to it until "close", and two immediates after
 * that.
 */
export function holdSession(session: Http2Session): void {
  const key = Object.getOwnPropertySymbols(session).find(({ description }) => description === "kHandle");
  if (key === undefined) return;
  const handle: unknown = Reflect.get(session, key);
  session.once("close", () => {
    setImmediate(() => setImmediate(release, handle));
  });
}

/** The end of the last reference. */
function release(_handle: unknown): void {
  // Nothing is left to do.
}
