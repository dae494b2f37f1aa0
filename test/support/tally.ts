import { createFileRegistry, fromJson } from "@bufbuild/protobuf";
import type { DescService } from "@bufbuild/protobuf";
import { FileDescriptorSetSchema } from "@bufbuild/protobuf/wkt";

const method = (name: string, clientStreaming = false, serverStreaming = false) => ({
  name,
  inputType: ".tally.v1.Count",
  outputType: ".tally.v1.Count",
  clientStreaming,
  serverStreaming,
});
const methods = [method("Add"), method("Sum", true), method("Watch", false, true), method("Talk", true, true)];

const files = createFileRegistry(
  fromJson(FileDescriptorSetSchema, {
    file: [
      {
        name: "tally/v1/tally.proto",
        package: "tally.v1",
        syntax: "proto3",
        messageType: [
          { name: "Count", field: [{ name: "n", number: 1, type: "TYPE_INT32", label: "LABEL_OPTIONAL" }] },
        ],
        service: ["TallyService", "OpsService", "ReportService"].map((name) => ({ name, method: methods })),
      },
    ],
  }),
);

/** Services as a user of the library might have them: a method for each shape, all with the same messages. */
export function tallyService(name: "TallyService" | "OpsService" | "ReportService"): DescService {
  const service = files.getService(`tally.v1.${name}`);
  if (service === undefined) throw new Error(`there is no ${name}`);
  return service;
}

/** Answers 1 to everything. */
export const tally = {
  add: () => ({ n: 1 }),
  async sum(requests: AsyncIterable<unknown>) {
    for await (const _ of requests);
    return { n: 1 };
  },
  async *watch() {
    yield await Promise.resolve({ n: 1 });
  },
  async *talk(requests: AsyncIterable<unknown>) {
    for await (const _ of requests) yield { n: 1 };
  },
};
