// Node has fetch too: what a page would do.
import { greetings } from "./page.js";

console.log(JSON.stringify(await greetings(process.argv[2] ?? "")));
