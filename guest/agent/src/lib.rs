//! PID 1 of a sandbox: envd-compatible services, code interpreter, control channel.
