//! From the service's own types to the messages of `filesystem.proto`.

use buffa::{EnumValue, MessageField};
use buffa_types::google::protobuf::Timestamp;

use super::entry::{Entry, EntryKind};
use super::watch::event::{Change, Event};
use crate::proto::filesystem::{EntryInfo, EventType, FileType, FilesystemEvent};

impl From<Entry> for EntryInfo {
    fn from(entry: Entry) -> Self {
        let kind = match entry.kind {
            EntryKind::File => FileType::FILE_TYPE_FILE,
            EntryKind::Directory => FileType::FILE_TYPE_DIRECTORY,
            EntryKind::Unspecified => FileType::FILE_TYPE_UNSPECIFIED,
        };
        let (seconds, nanos) = entry.modified;
        Self {
            name: entry.name,
            r#type: EnumValue::Known(kind),
            path: entry.path,
            size: entry.size,
            mode: entry.mode,
            permissions: entry.permissions,
            owner: entry.owner,
            group: entry.group,
            modified_time: MessageField::some(Timestamp {
                seconds,
                nanos,
                ..Timestamp::default()
            }),
            symlink_target: entry.symlink_target,
            metadata: entry.metadata.into_iter().collect(),
            is_symlink: entry.is_symlink,
            ..Self::default()
        }
    }
}

impl From<Event> for FilesystemEvent {
    fn from(event: Event) -> Self {
        let kind = match event.change {
            Change::Create => EventType::EVENT_TYPE_CREATE,
            Change::Write => EventType::EVENT_TYPE_WRITE,
            Change::Remove => EventType::EVENT_TYPE_REMOVE,
            Change::Rename => EventType::EVENT_TYPE_RENAME,
            Change::Chmod => EventType::EVENT_TYPE_CHMOD,
        };
        Self {
            name: event.name,
            r#type: EnumValue::Known(kind),
            entry: event
                .entry
                .map_or_else(MessageField::none, |entry| MessageField::some(entry.into())),
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn entry() -> Entry {
        Entry {
            name: "l".into(),
            kind: EntryKind::Directory,
            path: "/home/user/l".into(),
            size: 9_007_199_254_740_993,
            mode: 0o755,
            permissions: "Lrwxrwxrwx".into(),
            owner: "user".into(),
            group: "user".into(),
            modified: (784_111_777, 500_000_000),
            symlink_target: Some("/data".into()),
            metadata: BTreeMap::from([("team".into(), "blue".into())]),
            is_symlink: true,
        }
    }

    #[test]
    fn an_entry_reads_as_the_sdks_expect() {
        let info = EntryInfo::from(entry());
        insta::assert_json_snapshot!(info, @r#"
        {
          "name": "l",
          "type": "FILE_TYPE_DIRECTORY",
          "path": "/home/user/l",
          "size": "9007199254740993",
          "mode": 493,
          "permissions": "Lrwxrwxrwx",
          "owner": "user",
          "group": "user",
          "modifiedTime": "1994-11-06T08:49:37.500Z",
          "symlinkTarget": "/data",
          "metadata": {
            "team": "blue"
          },
          "isSymlink": true
        }
        "#);
    }

    #[test]
    fn an_event_has_its_entry_only_when_there_is_one() {
        let event = Event {
            name: "d/f".into(),
            change: Change::Chmod,
            entry: None,
        };
        insta::assert_json_snapshot!(FilesystemEvent::from(event.clone()), @r#"
        {
          "name": "d/f",
          "type": "EVENT_TYPE_CHMOD"
        }
        "#);
        let event = Event {
            entry: Some(entry()),
            ..event
        };
        assert!(FilesystemEvent::from(event).entry.is_set());
    }
}
