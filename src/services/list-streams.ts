import type { ListStreamsRequest, Stream } from "../../gen/data/v1/data_pb.ts";
import { DomainError } from "../errors.ts";
import type { Store } from "../store/store.ts";
import { fromInfo } from "./conversions.ts";

const defaultPageSize = 100;

/** One page of the streams that the caller may see. The page token is the last name, in base64url. */
export async function listVisible(
  store: Store,
  { prefix, pageSize, pageToken }: ListStreamsRequest,
  visible: (stream: string) => boolean,
): Promise<{ streams: Stream[]; nextPageToken: string }> {
  const limit = pageSize === 0 ? defaultPageSize : pageSize;
  let after = pageToken === "" ? undefined : decode(pageToken);
  const streams: Stream[] = [];
  for (;;) {
    const page = await store.list({ prefix, limit, ...(after === undefined ? {} : { after }) });
    for (const info of page) {
      if (!visible(info.name)) continue;
      if (streams.length === limit) return { streams, nextPageToken: encode(streams.at(-1)?.name ?? "") };
      streams.push(fromInfo(info));
    }
    after = page.at(-1)?.name;
    if (page.length < limit || after === undefined) return { streams, nextPageToken: "" };
  }
}

function encode(name: string): string {
  return Buffer.from(name).toString("base64url");
}

function decode(token: string): string {
  const name = Buffer.from(token, "base64url").toString();
  if (encode(name) !== token) {
    throw new DomainError({ kind: "invalid-argument", detail: "page_token must be a next_page_token as it was given" });
  }
  return name;
}
