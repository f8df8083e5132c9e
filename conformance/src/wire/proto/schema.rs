//! Messages of envd's `process.Process` and `filesystem.Filesystem`. Members of a oneof are fields like others, as in JSON.

use super::Kind::{Bool, Bytes, Enum, Int64, Map, Message as Of, Sint32, Text, Time, Uint32};
use super::{Field, Kind, Message};

const fn one(number: u32, name: &'static str, kind: Kind) -> Field {
    Field {
        name,
        number,
        kind,
        repeated: false,
    }
}

const fn many(number: u32, name: &'static str, kind: Kind) -> Field {
    Field {
        name,
        number,
        kind,
        repeated: true,
    }
}

macro_rules! messages {
    ($($name:ident { $($field:expr),* $(,)? })*) => {
        $(
            #[doc = concat!("`", stringify!($name), "`.")]
            pub static $name: Message = Message { name: stringify!($name), fields: &[$($field),*] };
        )*
    };
}

/// `process.Signal`.
const SIGNAL: Kind = Enum(&[
    (0, "SIGNAL_UNSPECIFIED"),
    (15, "SIGNAL_SIGTERM"),
    (9, "SIGNAL_SIGKILL"),
]);
/// `filesystem.FileType`.
const FILE_TYPE: Kind = Enum(&[
    (0, "FILE_TYPE_UNSPECIFIED"),
    (1, "FILE_TYPE_FILE"),
    (2, "FILE_TYPE_DIRECTORY"),
    (3, "FILE_TYPE_SYMLINK"),
]);
/// `filesystem.EventType`.
const EVENT_TYPE: Kind = Enum(&[
    (0, "EVENT_TYPE_UNSPECIFIED"),
    (1, "EVENT_TYPE_CREATE"),
    (2, "EVENT_TYPE_WRITE"),
    (3, "EVENT_TYPE_REMOVE"),
    (4, "EVENT_TYPE_RENAME"),
    (5, "EVENT_TYPE_CHMOD"),
]);

messages! {
    EMPTY {}
    PROCESS_CONFIG { one(1, "cmd", Text), many(2, "args", Text), one(3, "envs", Map), one(4, "cwd", Text) }
    PTY_SIZE { one(1, "cols", Uint32), one(2, "rows", Uint32) }
    PTY { one(1, "size", Of(&PTY_SIZE)) }
    PROCESS_INFO { one(1, "config", Of(&PROCESS_CONFIG)), one(2, "pid", Uint32), one(3, "tag", Text) }
    SELECTOR { one(1, "pid", Uint32), one(2, "tag", Text) }
    INPUT { one(1, "stdin", Bytes), one(2, "pty", Bytes) }
    STARTED { one(1, "pid", Uint32) }
    DATA { one(1, "stdout", Bytes), one(2, "stderr", Bytes), one(3, "pty", Bytes) }
    END { one(1, "exitCode", Sint32), one(2, "exited", Bool), one(3, "status", Text), one(4, "error", Text) }
    PROCESS_EVENT { one(1, "start", Of(&STARTED)), one(2, "data", Of(&DATA)), one(3, "end", Of(&END)), one(4, "keepalive", Of(&EMPTY)) }
    LIST_PROCESSES { many(1, "processes", Of(&PROCESS_INFO)) }
    START { one(1, "process", Of(&PROCESS_CONFIG)), one(2, "pty", Of(&PTY)), one(3, "tag", Text), one(4, "stdin", Bool) }
    EVENT { one(1, "event", Of(&PROCESS_EVENT)) }
    SELECT { one(1, "process", Of(&SELECTOR)) }
    UPDATE { one(1, "process", Of(&SELECTOR)), one(2, "pty", Of(&PTY)) }
    SEND_INPUT { one(1, "process", Of(&SELECTOR)), one(2, "input", Of(&INPUT)) }
    SEND_SIGNAL { one(1, "process", Of(&SELECTOR)), one(2, "signal", SIGNAL) }
    ENTRY {
        one(1, "name", Text), one(2, "type", FILE_TYPE), one(3, "path", Text), one(4, "size", Int64),
        one(5, "mode", Uint32), one(6, "permissions", Text), one(7, "owner", Text), one(8, "group", Text),
        one(9, "modifiedTime", Time), one(10, "symlinkTarget", Text), one(11, "metadata", Map),
        one(12, "isSymlink", Bool)
    }
    PATH { one(1, "path", Text) }
    MOVE { one(1, "source", Text), one(2, "destination", Text) }
    LIST_DIR { one(1, "path", Text), one(2, "depth", Uint32) }
    HAS_ENTRY { one(1, "entry", Of(&ENTRY)) }
    ENTRIES { many(1, "entries", Of(&ENTRY)) }
    WATCH { one(1, "path", Text), one(2, "recursive", Bool), one(3, "includeEntry", Bool), one(4, "allowNetworkMounts", Bool) }
    FILE_EVENT { one(1, "name", Text), one(2, "type", EVENT_TYPE), one(3, "entry", Of(&ENTRY)) }
    WATCHED { one(1, "start", Of(&EMPTY)), one(2, "filesystem", Of(&FILE_EVENT)), one(3, "keepalive", Of(&EMPTY)) }
    WATCHER { one(1, "watcherId", Text) }
    EVENTS { many(1, "events", Of(&FILE_EVENT)) }
}

/// Request and response of a method.
#[must_use]
pub fn method(name: &str) -> Option<(&'static Message, &'static Message)> {
    Some(match name {
        "process.Process/List" => (&EMPTY, &LIST_PROCESSES),
        "process.Process/Start" => (&START, &EVENT),
        "process.Process/Connect" => (&SELECT, &EVENT),
        "process.Process/Update" => (&UPDATE, &EMPTY),
        "process.Process/SendInput" => (&SEND_INPUT, &EMPTY),
        "process.Process/SendSignal" => (&SEND_SIGNAL, &EMPTY),
        "process.Process/CloseStdin" => (&SELECT, &EMPTY),
        "filesystem.Filesystem/Stat" | "filesystem.Filesystem/MakeDir" => (&PATH, &HAS_ENTRY),
        "filesystem.Filesystem/Move" => (&MOVE, &HAS_ENTRY),
        "filesystem.Filesystem/ListDir" => (&LIST_DIR, &ENTRIES),
        "filesystem.Filesystem/Remove" => (&PATH, &EMPTY),
        "filesystem.Filesystem/WatchDir" => (&WATCH, &WATCHED),
        "filesystem.Filesystem/CreateWatcher" => (&WATCH, &WATCHER),
        "filesystem.Filesystem/GetWatcherEvents" => (&WATCHER, &EVENTS),
        "filesystem.Filesystem/RemoveWatcher" => (&WATCHER, &EMPTY),
        _ => return None,
    })
}
