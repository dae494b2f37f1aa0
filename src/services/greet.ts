import { Code, ConnectError } from "@connectrpc/connect";
import type { HandlerContext, ServiceImpl } from "@connectrpc/connect";
import { durationMs } from "@bufbuild/protobuf/wkt";
import type { GreetService } from "../../gen/greet/v1/greet_pb.ts";
import { sleep } from "../async/signals.ts";

/** Names that one GreetAll takes, as its .proto comment says. */
const maxNames = 1000;

/** The smallest honest example of each RPC shape. Its calls must have gone through `prepareGreeting`. */
export function createGreetService(): ServiceImpl<typeof GreetService> {
  return {
    greet({ name }, context) {
      countGreetings(context, 1);
      return { greeting: greeting([name]) };
    },

    async greetAll(requests, context) {
      const names: string[] = [];
      for await (const { name } of requests) {
        if (names.length === maxNames) {
          throw new ConnectError(`at most ${maxNames} names can be greeted together`, Code.ResourceExhausted);
        }
        names.push(name);
      }
      if (names.length === 0) throw new ConnectError("send at least one name", Code.InvalidArgument);
      countGreetings(context, 1);
      return { greeting: greeting(names) };
    },

    async *greetRepeatedly({ name, times, interval }, context) {
      const pause = interval === undefined ? 0 : durationMs(interval);
      for (let i = 0; i < Math.max(1, times); i++) {
        if (i > 0 && pause > 0) await sleep(pause, context.signal);
        countGreetings(context, i + 1);
        yield { greeting: greeting([name]) };
      }
    },

    async *greetEach(requests, context) {
      let i = 0;
      for await (const { name } of requests) {
        countGreetings(context, ++i);
        yield { greeting: greeting([name]) };
      }
    },
  };
}

/**
 * Sets the header and the trailer that every response carries. To be called as
 * soon as a call of GreetService is seen, so that they come with whatever
 * refuses it, too.
 */
export function prepareGreeting(context: HandlerContext): void {
  context.responseHeader.set("Greet-Version", "v1");
  countGreetings(context, 0);
}

function countGreetings(context: HandlerContext, count: number): void {
  context.responseTrailer.set("Greet-Count", String(count));
}

function greeting(names: readonly string[]): string {
  const last = names.at(-1) ?? "";
  const others = names.slice(0, -1).join(", ");
  return `Hello, ${others === "" ? last : `${others} and ${last}`}!`;
}
