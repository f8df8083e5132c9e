//! Protobuf at the edge: requests become JSON, answers become protobuf; the agent itself knows JSON only.
//!
//! ```text
//!  "number name kind …"   s text · b bytes · t bool · u uint32 · z sint32 · i int64 · m map · @ time
//!                         :Name message · =Name enum · * before a kind: repeated
//! ```

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::connect::Failure;
use crate::world::World;

const MESSAGES: &[(&str, &str)] = &[
    ("Config", "1 cmd s 2 args *s 3 envs m 4 cwd s"),
    ("Size", "1 cols u 2 rows u"),
    ("Pty", "1 size :Size"),
    ("Info", "1 config :Config 2 pid u 3 tag s"),
    ("Selector", "1 pid u 2 tag s"),
    ("Input", "1 stdin b 2 pty b"),
    ("Pid", "1 pid u"),
    ("Data", "1 stdout b 2 stderr b 3 pty b"),
    ("End", "1 exitCode z 2 exited t 3 status s 4 error s"),
    (
        "Event",
        "1 start :Pid 2 data :Data 3 end :End 4 keepalive :Nothing",
    ),
    ("List", "1 processes *:Info"),
    ("Start", "1 process :Config 2 pty :Pty 3 tag s 4 stdin t"),
    ("Events", "1 event :Event"),
    ("Select", "1 process :Selector"),
    ("Update", "1 process :Selector 2 pty :Pty"),
    ("SendInput", "1 process :Selector 2 input :Input"),
    ("SendSignal", "1 process :Selector 2 signal =Signal"),
    (
        "Entry",
        "1 name s 2 type =FileType 3 path s 4 size i 5 mode u 6 permissions s 7 owner s 8 group s \
      9 modifiedTime @ 10 symlinkTarget s 11 metadata m 12 isSymlink t",
    ),
    ("Path", "1 path s"),
    ("Move", "1 source s 2 destination s"),
    ("ListDir", "1 path s 2 depth u"),
    ("HasEntry", "1 entry :Entry"),
    ("Entries", "1 entries *:Entry"),
    (
        "Watch",
        "1 path s 2 recursive t 3 includeEntry t 4 allowNetworkMounts t",
    ),
    ("Change", "1 name s 2 type =EventType 3 entry :Entry"),
    (
        "Watched",
        "1 start :Nothing 2 filesystem :Change 3 keepalive :Nothing",
    ),
    ("Watcher", "1 watcherId s"),
    ("Changes", "1 events *:Change"),
    ("Nothing", ""),
];

const ENUMS: &[(&str, &[(u64, &str)])] = &[
    (
        "Signal",
        &[
            (0, "SIGNAL_UNSPECIFIED"),
            (15, "SIGNAL_SIGTERM"),
            (9, "SIGNAL_SIGKILL"),
        ],
    ),
    (
        "FileType",
        &[
            (0, "FILE_TYPE_UNSPECIFIED"),
            (1, "FILE_TYPE_FILE"),
            (2, "FILE_TYPE_DIRECTORY"),
            (3, "FILE_TYPE_SYMLINK"),
        ],
    ),
    (
        "EventType",
        &[
            (1, "EVENT_TYPE_CREATE"),
            (2, "EVENT_TYPE_WRITE"),
            (3, "EVENT_TYPE_REMOVE"),
            (4, "EVENT_TYPE_RENAME"),
            (5, "EVENT_TYPE_CHMOD"),
        ],
    ),
];

/// Request and answer of a method.
pub fn method(name: &str) -> Option<(&'static str, &'static str)> {
    Some(match name {
        "List" => ("Nothing", "List"),
        "Start" => ("Start", "Events"),
        "Connect" => ("Select", "Events"),
        "Update" => ("Update", "Nothing"),
        "SendInput" => ("SendInput", "Nothing"),
        "SendSignal" => ("SendSignal", "Nothing"),
        "CloseStdin" => ("Select", "Nothing"),
        "Stat" | "MakeDir" => ("Path", "HasEntry"),
        "Move" => ("Move", "HasEntry"),
        "ListDir" => ("ListDir", "Entries"),
        "Remove" => ("Path", "Nothing"),
        "WatchDir" => ("Watch", "Watched"),
        "CreateWatcher" => ("Watch", "Watcher"),
        "GetWatcherEvents" => ("Watcher", "Changes"),
        "RemoveWatcher" => ("Watcher", "Nothing"),
        _ => return None,
    })
}

/// Number, name and kind of the fields of a message.
fn fields(message: &str) -> Vec<(u64, &'static str, &'static str)> {
    let text = MESSAGES
        .iter()
        .find(|(name, _)| *name == message)
        .map_or("", |(_, text)| *text);
    let words: Vec<&str> = text.split_whitespace().collect();
    words
        .chunks_exact(3)
        .map(|field| (field[0].parse().unwrap_or(0), field[1], field[2]))
        .collect()
}

fn enumeration(name: &str) -> &'static [(u64, &'static str)] {
    ENUMS
        .iter()
        .find(|(known, _)| *known == name)
        .map_or(&[], |(_, names)| *names)
}

/// A request's message as JSON.
pub fn read(w: &World, message: &str, bytes: &[u8]) -> Result<Value, Failure> {
    match parsed(w, message, bytes) {
        Some(value) => Ok(value),
        None if w.on("proto-garbage-200") => Ok(json!({})),
        None => Err(Failure::new(
            "invalid_argument",
            "the message is not protobuf",
        )),
    }
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0;
    for shift in (0..70).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f).checked_shl(shift)?;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn block<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(varint(bytes)?).ok()?;
    let (head, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(head)
}

fn parsed(w: &World, message: &str, mut bytes: &[u8]) -> Option<Value> {
    let fields = fields(message);
    let mut value = json!({});
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let field = fields.iter().find(|(number, ..)| *number == key >> 3);
        let Some((_, name, kind)) = field else {
            if w.on("proto-unknown-field-refused") {
                return None;
            }
            match key & 7 {
                0 => drop(varint(&mut bytes)?),
                2 => drop(block(&mut bytes)?),
                1 => bytes = bytes.get(8..)?,
                5 => bytes = bytes.get(4..)?,
                _ => return None,
            }
            continue;
        };
        let single = kind.trim_start_matches('*');
        let one = match (key & 7, single.split_at(1)) {
            (0, ("t", _)) => json!(varint(&mut bytes)? != 0),
            (0, ("u", _)) => json!(varint(&mut bytes)?),
            (0, ("=", of)) => {
                let number = varint(&mut bytes)?;
                let names = enumeration(of);
                let by_index = usize::try_from(number).ok().and_then(|at| names.get(at));
                let by_number = names.iter().find(|(known, _)| *known == number);
                let found = if w.on("proto-signal-by-index") {
                    by_index
                } else {
                    by_number
                };
                json!(found.map_or("UNKNOWN", |(_, name)| *name))
            }
            (2, ("s", _)) => json!(std::str::from_utf8(block(&mut bytes)?).ok()?),
            (2, ("b", _)) => {
                let content = block(&mut bytes)?;
                json!(STANDARD.encode(if w.on("proto-input-lost") {
                    &[]
                } else {
                    content
                }))
            }
            (2, ("m", _)) => {
                let pair = entry(block(&mut bytes)?)?;
                let mut all = value[*name].as_object().cloned().unwrap_or_default();
                all.insert(pair.0, json!(pair.1));
                Value::Object(all)
            }
            (2, (":", of)) => parsed(w, of, block(&mut bytes)?)?,
            _ => return None,
        };
        if kind.starts_with('*') {
            match value[*name].as_array_mut() {
                Some(items) => items.push(one),
                None => value[*name] = json!([one]),
            }
        } else {
            value[*name] = one;
        }
    }
    Some(value)
}

fn entry(mut bytes: &[u8]) -> Option<(String, String)> {
    let mut pair = (String::new(), String::new());
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let text = String::from_utf8(block(&mut bytes)?.to_vec()).ok()?;
        if key >> 3 == 1 {
            pair.0 = text;
        } else {
            pair.1 = text;
        }
    }
    Some(pair)
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number > 0x7f {
        out.push(u8::try_from(number & 0x7f).unwrap_or(0) | 0x80);
        number >>= 7;
    }
    out.push(u8::try_from(number).unwrap_or(0));
}

fn put_block(out: &mut Vec<u8>, number: u64, bytes: &[u8]) {
    put_varint(out, number << 3 | 2);
    put_varint(out, u64::try_from(bytes.len()).unwrap_or(0));
    out.extend_from_slice(bytes);
}

/// An answer's message as protobuf. Members that the message does not have are left out.
pub fn written(w: &World, message: &str, value: &Value) -> Vec<u8> {
    let mut out = Vec::new();
    for (number, name, kind) in fields(message) {
        match &value[name] {
            Value::Null => {}
            Value::Array(items) => {
                let items = if w.on("proto-last-entry-only") {
                    &items[items.len().saturating_sub(1)..]
                } else {
                    items
                };
                for item in items {
                    put(w, &mut out, number, kind.trim_start_matches('*'), item);
                }
            }
            one => put(w, &mut out, number, kind, one),
        }
    }
    out
}

fn put(w: &World, out: &mut Vec<u8>, number: u64, kind: &str, value: &Value) {
    let text = value.as_str().unwrap_or("");
    let plain = match kind.split_at(1) {
        ("s", _) => return put_block(out, number, text.as_bytes()),
        ("b", _) if w.on("proto-bytes-as-base64") => {
            return put_block(out, number, text.as_bytes());
        }
        ("b", _) => return put_block(out, number, &STANDARD.decode(text).unwrap_or_default()),
        (":", of) => return put_block(out, number, &written(w, of, value)),
        ("m", _) if w.on("proto-map-lost") => return,
        ("m", _) => return put_map(out, number, value.as_object()),
        ("@", _) if w.on("proto-time-lost") => return,
        ("@", _) => return put_block(out, number, &time(text)),
        ("i", _) if w.on("proto-size-as-text") => return put_block(out, number, text.as_bytes()),
        ("i", _) => text.parse::<i64>().unwrap_or(0).cast_unsigned(),
        ("z", _) => {
            let code = value.as_i64().unwrap_or(0);
            if w.on("proto-exit-code-plain") {
                u64::from(i32::try_from(code).unwrap_or(0).cast_unsigned())
            } else {
                ((code << 1) ^ (code >> 63)).cast_unsigned() & 0xffff_ffff
            }
        }
        ("t", _) => u64::from(value.as_bool().unwrap_or(false)),
        ("=", of) => {
            let found = enumeration(of).iter().find(|(_, name)| *name == text);
            let shift = u64::from(w.on("proto-event-type-shifted") && of == "EventType");
            found.map_or(0, |(number, _)| *number + shift)
        }
        _ => value.as_u64().unwrap_or(0),
    };
    put_varint(out, number << 3);
    put_varint(out, plain);
}

fn put_map(out: &mut Vec<u8>, number: u64, members: Option<&Map<String, Value>>) {
    for (key, value) in members.into_iter().flatten() {
        let mut pair = Vec::new();
        put_block(&mut pair, 1, key.as_bytes());
        put_block(&mut pair, 2, value.as_str().unwrap_or("").as_bytes());
        put_block(out, number, &pair);
    }
}

fn time(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let moment: Timestamp = text.parse().unwrap_or_default();
    put_varint(&mut out, 1 << 3);
    put_varint(&mut out, moment.as_second().cast_unsigned());
    put_varint(&mut out, 2 << 3);
    put_varint(
        &mut out,
        i64::from(moment.subsec_nanosecond()).cast_unsigned(),
    );
    out
}
