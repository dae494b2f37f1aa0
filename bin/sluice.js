#!/usr/bin/env node
// Only what an old Node can parse and run stands in this file: no static imports, no import.meta.
// A checkout runs its TypeScript sources, which Node can do from 22.18 on; the package has compiled code only.
/* global process, console */
var version = process.versions.node.split(".").map(Number);

function runs(major, minor) {
  return version[0] > major || (version[0] === major && version[1] >= minor);
}

function refuse(needed) {
  console.error(
    "sluice needs Node " +
      needed +
      " or newer, and this is " +
      process.versions.node +
      ". In a checkout, `npm start` and `npm run -s sluice -- ...` use the pinned Node; if you ran one of them, npm kept it from being installed: run `npm rebuild node`",
  );
  process.exitCode = 1;
}

if (!runs(22, 12)) {
  refuse("22.12");
} else {
  // Node calls type stripping experimental; that is of no use to somebody who runs a command.
  var emitWarning = process.emitWarning;
  process.emitWarning = function (warning, options) {
    var type = typeof options === "string" ? options : options && options.type;
    if (type !== "ExperimentalWarning" && !(warning && warning.name === "ExperimentalWarning")) {
      emitWarning.apply(process, arguments);
    }
  };
  import("../src/cli/main.ts")
    .catch(function (error) {
      if (error.code === "ERR_UNKNOWN_FILE_EXTENSION") return refuse("22.18");
      // A package has no sources. A file that a source does not find is another matter.
      if (error.code !== "ERR_MODULE_NOT_FOUND" || !/\/src\/cli\/main\.ts$/.test(error.url || "")) throw error;
      return import("../dist/src/cli/main.js");
    })
    .then(function (cli) {
      return cli && cli.main(process.argv);
    });
}
