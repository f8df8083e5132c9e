//! Users and groups of the sandbox, read from `etc/passwd` and `etc/group`.
//!
//! The agent is a static binary: glibc's name service would need shared modules of the very same version at run time,
//! and the files belong to the guest, who may write anything into them. So they are parsed here: at most
//! [`MAX_FILE_LEN`] bytes, lines that don't fit the format are skipped, the first entry of a name or id wins
//! (passwd(5), group(5)).
//!
//! The files are read anew for each [`UserDb::load`], since a sandbox may add users at any time.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use crate::errors::{Fault, Kind};

/// Most bytes read of each file; what lies beyond is ignored.
pub const MAX_FILE_LEN: u64 = 1 << 20;

/// A user that a process can run as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Login name.
    pub name: String,
    /// User id.
    pub uid: u32,
    /// Primary group id.
    pub gid: u32,
    /// All group ids: the primary one first, then the supplementary ones in file order.
    pub groups: Vec<u32>,
    /// Home directory; `/` when the entry has none.
    pub home: String,
    /// Login shell; `/bin/sh` when the entry has none.
    pub shell: String,
}

/// Why a user name cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UserError {
    /// The name is not in `/etc/passwd`. (The wording is E2B's; clients match it.)
    #[error("invalid username: '{0}'")]
    Unknown(String),
}

impl From<UserError> for Fault {
    fn from(error: UserError) -> Self {
        Self::new(Kind::Unauthenticated, error.to_string())
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct PasswdEntry {
    name: String,
    uid: u32,
    gid: u32,
    home: String,
    shell: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct GroupEntry {
    name: String,
    gid: u32,
    members: Vec<String>,
}

/// The users and groups of one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserDb {
    users: Vec<PasswdEntry>,
    groups: Vec<GroupEntry>,
}

impl UserDb {
    /// Reads both files under `root`. A file that cannot be read counts as empty.
    #[must_use]
    pub fn load(root: &Path) -> Self {
        let read = |name: &str| {
            let mut text = Vec::new();
            if let Ok(file) = File::open(root.join(name)) {
                // An error keeps what was read before it.
                let _ = file.take(MAX_FILE_LEN).read_to_end(&mut text);
            }
            String::from_utf8_lossy(&text).into_owned()
        };
        Self::parse(&read("etc/passwd"), &read("etc/group"))
    }

    /// Parses the texts of both files.
    #[must_use]
    pub fn parse(passwd: &str, group: &str) -> Self {
        Self {
            users: passwd.lines().filter_map(parse_passwd_line).collect(),
            groups: group.lines().filter_map(parse_group_line).collect(),
        }
    }

    /// The user of that login name.
    ///
    /// # Errors
    /// [`UserError::Unknown`] when there is none.
    pub fn by_name(&self, name: &str) -> Result<User, UserError> {
        self.users
            .iter()
            .find(|entry| entry.name == name)
            .map(|entry| self.complete(entry))
            .ok_or_else(|| UserError::Unknown(name.to_owned()))
    }

    /// Login name of `uid`, or the number when no user has it.
    #[must_use]
    pub fn user_name(&self, uid: u32) -> String {
        self.users
            .iter()
            .find(|entry| entry.uid == uid)
            .map_or_else(|| uid.to_string(), |entry| entry.name.clone())
    }

    /// Name of the group `gid`, or the number when no group has it.
    #[must_use]
    pub fn group_name(&self, gid: u32) -> String {
        self.groups
            .iter()
            .find(|entry| entry.gid == gid)
            .map_or_else(|| gid.to_string(), |entry| entry.name.clone())
    }

    fn complete(&self, entry: &PasswdEntry) -> User {
        let mut groups = vec![entry.gid];
        for group in &self.groups {
            if group.members.contains(&entry.name) && !groups.contains(&group.gid) {
                groups.push(group.gid);
            }
        }
        let or = |text: &str, fallback: &str| {
            if text.is_empty() {
                fallback.to_owned()
            } else {
                text.to_owned()
            }
        };
        User {
            name: entry.name.clone(),
            uid: entry.uid,
            gid: entry.gid,
            groups,
            home: or(&entry.home, "/"),
            shell: or(&entry.shell, "/bin/sh"),
        }
    }
}

/// `name:password:uid:gid:gecos:home:shell`
fn parse_passwd_line(line: &str) -> Option<PasswdEntry> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    let (_password, uid, gid) = (fields.next()?, fields.next()?, fields.next()?);
    let (_gecos, home, shell) = (fields.next()?, fields.next()?, fields.next()?);
    if fields.next().is_some() {
        return None;
    }
    Some(PasswdEntry {
        name: name.to_owned(),
        uid: parse_id(uid)?,
        gid: parse_id(gid)?,
        home: home.to_owned(),
        shell: shell.to_owned(),
    })
}

/// `name:password:gid:member,member`
fn parse_group_line(line: &str) -> Option<GroupEntry> {
    let mut fields = line.split(':');
    let name = fields.next().filter(|name| !name.is_empty())?;
    let (_password, gid, members) = (fields.next()?, fields.next()?, fields.next()?);
    if fields.next().is_some() {
        return None;
    }
    let members = members
        .split(',')
        .filter(|m| !m.is_empty())
        .map(str::to_owned)
        .collect();
    Some(GroupEntry {
        name: name.to_owned(),
        gid: parse_id(gid)?,
        members,
    })
}

/// An id is a plain decimal number; `u32::MAX` means "unchanged" to chown(2) and setuid(2) and is refused.
fn parse_id(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    digits
        .then(|| text.parse().ok())
        .flatten()
        .filter(|id| *id != u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PASSWD: &str = "\
root:x:0:0:root:/root:/bin/bash
# a comment
broken:x:notanumber:0::/:/bin/sh
short:x:1:1
user:x:1000:1000::/home/user:/bin/bash
user:x:0:0::/root:/bin/bash
bare:x:1001:1001:::
max:x:4294967295:0::/:/bin/sh
";
    const GROUP: &str = "\
root:x:0:
sudo:x:27:user,other
user:x:1000:
docker:x:999:other,user
";

    #[test]
    fn a_user_has_the_groups_that_name_it() {
        let user = UserDb::parse(PASSWD, GROUP).by_name("user").expect("known");
        assert_eq!(
            user,
            User {
                name: "user".into(),
                uid: 1000,
                gid: 1000,
                groups: vec![1000, 27, 999],
                home: "/home/user".into(),
                shell: "/bin/bash".into(),
            }
        );
    }

    #[test]
    fn empty_fields_get_defaults() {
        let user = UserDb::parse(PASSWD, GROUP).by_name("bare").expect("known");
        assert_eq!((user.home.as_str(), user.shell.as_str()), ("/", "/bin/sh"));
    }

    #[test]
    fn unusable_lines_are_skipped() {
        let db = UserDb::parse(PASSWD, GROUP);
        for name in ["broken", "short", "# a comment", "max", ""] {
            assert_eq!(db.by_name(name), Err(UserError::Unknown(name.into())));
        }
    }

    #[test]
    fn the_refusal_reads_as_clients_expect() {
        let fault = Fault::from(UserError::Unknown("root123".into()));
        assert_eq!(
            fault,
            Fault::new(Kind::Unauthenticated, "invalid username: 'root123'")
        );
    }

    #[test]
    fn ids_without_a_name_stay_numbers() {
        let db = UserDb::parse(PASSWD, GROUP);
        assert_eq!(
            (db.user_name(1000), db.user_name(7)),
            ("user".into(), "7".into())
        );
        assert_eq!(
            (db.group_name(27), db.group_name(7)),
            ("sudo".into(), "7".into())
        );
    }

    #[test]
    fn missing_files_are_empty() {
        let root = tempfile::tempdir().expect("a directory");
        assert_eq!(UserDb::load(root.path()), UserDb::default());
    }

    proptest! {
        #[test]
        fn parser_never_panics(passwd in ".{0,200}", group in ".{0,200}", name in ".{0,10}") {
            let db = UserDb::parse(&passwd, &group);
            if let Ok(user) = db.by_name(&name) {
                prop_assert_eq!(user.name, name);
                prop_assert_eq!(user.groups.first(), Some(&user.gid));
            }
        }

        #[test]
        fn a_well_formed_entry_is_found(
            name in "[a-z_][a-z0-9_-]{0,30}", uid in 0..u32::MAX, gid in 0..u32::MAX,
            home in "/[a-z/]{0,20}",
        ) {
            let db = UserDb::parse(&format!("{name}:x:{uid}:{gid}::{home}:/bin/sh"), "");
            let user = db.by_name(&name).expect("known");
            prop_assert_eq!((user.uid, user.gid, user.home), (uid, gid, home));
        }
    }
}
