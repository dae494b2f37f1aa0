import type { ListStreamsRequest, Stream } from "../../gen/data/v1/data_pb.ts";
import type { Principal } from "../auth/principal.ts";
import { streamsOpenTo } from "../auth/scopes.ts";
import { DomainError } from "../errors.ts";
import type { Store, StreamInfo } from "../store/store.ts";
import { fromInfo } from "./conversions.ts";
import { prefixRange, rangesOf, within } from "./name-ranges.ts";

const defaultPageSize = 100;
/** A page ends before it is larger than this, about, in bytes: clients bound the messages that they read. */
const maxPageBytes = 1024 * 1024;
/** What a stream takes besides its name and metadata, about, in bytes. */
const streamBytes = 150;

/** As in data.proto. */
const streamName = /^[a-z0-9][a-z0-9._/-]{0,254}$/;

/**
 * One page of the streams that the principal may see, from the ranges of names that its scopes open: what others may
 * see costs nothing. The page token is the last name, in base64url.
 */
export async function listVisible(
  store: Store,
  { prefix, pageSize, pageToken }: Pick<ListStreamsRequest, "prefix" | "pageSize" | "pageToken">,
  principal: Principal | undefined,
  signal: AbortSignal,
): Promise<{ streams: Stream[]; nextPageToken: string }> {
  const limit = pageSize === 0 ? defaultPageSize : pageSize;
  const after = pageToken === "" ? undefined : decode(pageToken);
  const visible = principal === undefined ? [] : rangesOf(streamsOpenTo(principal, "read"));
  const ranges = within(visible, prefixRange(prefix));
  // One more tells whether there is another page.
  const found = await store.list({ ranges, limit: limit + 1, ...(after === undefined ? {} : { after }) }, signal);
  const page = found.slice(0, Math.min(limit, countWithin(found)));
  const nextPageToken = found.length > page.length ? encode(page.at(-1)?.name ?? "") : "";
  return { streams: page.map(fromInfo), nextPageToken };
}

/** How many of the streams fit in a page: one at least. */
function countWithin(found: readonly StreamInfo[]): number {
  let bytes = 0;
  const beyond = found.findIndex(({ name, metadata = {} }) => {
    bytes += streamBytes + name.length;
    for (const [key, value] of Object.entries(metadata)) bytes += key.length + Buffer.byteLength(value);
    return bytes > maxPageBytes;
  });
  return beyond === -1 ? found.length : Math.max(1, beyond);
}

function encode(name: string): string {
  return Buffer.from(name).toString("base64url");
}

function decode(token: string): string {
  const name = Buffer.from(token, "base64url").toString();
  if (encode(name) !== token || !streamName.test(name)) {
    throw new DomainError({ kind: "invalid-argument", detail: "page_token must be a next_page_token as it was given" });
  }
  return name;
}
