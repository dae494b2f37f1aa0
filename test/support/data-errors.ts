import { DataError_Reason as Reason } from "../../gen/data/v1/data_pb.ts";
import { dataErrorOf } from "../../src/client/index.ts";
import { within } from "./deadline.ts";

/** The name of the reason that DataService gives for the failure of some work; "none" if it succeeds. */
export async function reasonOf(work: Promise<unknown>): Promise<string> {
  try {
    await within(10_000, "the end", work);
    return "none";
  } catch (error) {
    const reason = dataErrorOf(error)?.reason ?? Reason.UNSPECIFIED;
    return Object.entries(Reason).find(([, value]) => value === reason)?.[0] ?? String(reason);
  }
}
