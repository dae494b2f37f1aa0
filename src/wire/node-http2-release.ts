import type { Http2Stream } from "node:http2";

/**
 * To be called once a stream has closed. node:http2 keeps closed streams until the next full collection, in the old
 * tables of a Map: this lets go of the calls that they carried.
 */
export function releaseStream(stream: Http2Stream): void {
  stream.removeAllListeners();
  // An error that nobody listens for would end the process.
  stream.on("error", ignore);
}

function ignore(): void {
  // The call is over, and has been told how.
}
