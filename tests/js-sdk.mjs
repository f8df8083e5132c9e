// Hands out the SDKs from wherever they are installed: the folder named by SANDBOXD_NODE_DIR
// (the one that holds node_modules), else node_modules beside this file.
import { createRequire } from "node:module";
import { join } from "node:path";

const folder = process.env.SANDBOXD_NODE_DIR;
const require = createRequire(folder ? join(folder, "package.json") : import.meta.url);

export const { Sandbox, CommandExitError, FileType, FilesystemEventType, NotFoundError } = require("e2b");
export const { Sandbox: CodeSandbox } = require("@e2b/code-interpreter");
